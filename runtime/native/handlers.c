/* Compiled WebAssembly relies on the engine's handlers: an access out of bounds is a SIGSEGV that wasmtime turns into a trap. If
   another handler were in their place when a guest traps (faulthandler.enable(), signal.signal, a crash reporter), the process
   would end.

   So the kernel has one handler of these signals for the life of the process, the core's. It passes a fault to the engine's
   handler. A fault that is no trap it passes on to the handler that other code of the process has installed, as the kernel
   would. To learn of those handlers, the calls by which the engine and other libraries install them are redirected (redirect.c):
   they only change a table here.

   A call that is not redirected does replace the core's handler: by a library that was loaded since, or a call not made through
   a library's slots. The core's handler is put back before a guest is entered, by the timer while guests run, and before a guest
   is made to fault. Where no call can be redirected, it is the engine's own handler that is put back. */
#define _GNU_SOURCE
#include "handlers.h"
#include "cloche.h"
#include "redirect.h"
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <ucontext.h>
#endif

#define LOAD(place) __atomic_load_n(&(place), __ATOMIC_SEQ_CST)
#define STORE(place, value) __atomic_store_n(&(place), (value), __ATOMIC_SEQ_CST)

/* Those of which wasmtime installs a handler (crates/wasmtime/src/runtime/vm/sys/unix/signals.rs, foreach_handler). */
static const int numbers[] = {
    SIGSEGV,
    SIGILL,
#if defined(__x86_64__) || defined(__s390x__)
    SIGFPE,
#endif
#ifdef __APPLE__
    SIGBUS,
#endif
};
enum { COUNT = sizeof numbers / sizeof *numbers };
typedef void (*plain_handler)(int);
typedef void (*full_handler)(int, siginfo_t *, void *);

static struct {
    full_handler engines;
    struct sigaction others[2]; /* the current one, and room for the next one: after a fork neither is half written */
    int current;
    int previous_decides; /* an engine was made before the core: it calls the handler that it found for faults of others */
} table[COUNT];
static int taken;   /* the kernel has the core's handler */
static pid_t owner; /* the process that the table belongs to */

static struct sigaction kept[COUNT];             /* the handlers that the kernel must have */
static int known;                                /* bits: which of `kept` are known; each is written once */
CLOCHE_EXPORT uint64_t cloche_handlers_replaced; /* how often handlers had to be put back */
static const void *engines_library;
static int64_t looked_at;

static int index_of(int number) {
    for (int i = 0; i < COUNT; i++)
        if (numbers[i] == number) return i;
    return -1;
}

static int is_function(const struct sigaction *action) { return action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN; }

static int is_engines(const struct sigaction *action) {
    Dl_info its, engines;
    void *handler;
    memcpy(&handler, &action->sa_sigaction, sizeof handler);
    return is_function(action) && dladdr(handler, &its) && dladdr(engines_library, &engines) && its.dli_fbase == engines.dli_fbase;
}

/* ---- the table. sigaction may be called in a handler, so signals are blocked while the lock is held: or a handler could wait
   for ever. */
static int lock_word;

static void lock(sigset_t *mask) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, mask);
    while (__atomic_exchange_n(&lock_word, 1, __ATOMIC_ACQUIRE)) sched_yield();
}
static void unlock(const sigset_t *mask) {
    __atomic_store_n(&lock_word, 0, __ATOMIC_RELEASE);
    pthread_sigmask(SIG_SETMASK, mask, NULL);
}

/* A child of vfork has its own handlers but shares this memory: what it installs (subprocess resets all) must not get into the
   table. */
static pid_t this_process(void) {
#ifdef __linux__
    return (pid_t)syscall(SYS_getpid); /* getpid() of older C libraries returns a stored number: the parent's */
#else
    return getpid();
#endif
}
static int is_ours(void) { return LOAD(taken) && this_process() == owner; }

void handlers_forked(void) {
    owner = this_process();
    __atomic_store_n(&lock_word, 0, __ATOMIC_RELEASE);
}

/* Under the lock: make this the handler of other code. */
static void put(int i, const struct sigaction *action) {
    int next = !LOAD(table[i].current);
    table[i].others[next] = *action;
    STORE(table[i].current, next);
}

/* ---- a fault, or a signal that a process has sent */
static void to_others(int i, siginfo_t *info, void *machine) {
    sigset_t mask;
    int number = numbers[i], sent = info->si_code <= 0;
    lock(&mask);
    struct sigaction action = table[i].others[LOAD(table[i].current)], none = {.sa_handler = SIG_DFL};
    if (is_function(&action) && action.sa_flags & (int)SA_RESETHAND) put(i, &none);
    unlock(&mask);
    if (action.sa_handler == SIG_IGN && sent) return;
    if (!is_function(
            &action)) { /* a fault comes again when this handler returns: the system ends the process where it has happened */
        sigaction(number, &none, NULL);
        if (sent) raise(number);
        return;
    }
    if (!(action.sa_flags & SA_NODEFER)) sigaddset(&action.sa_mask, number);
    pthread_sigmask(SIG_BLOCK, &action.sa_mask, NULL); /* until the core's handler returns */
    if (action.sa_flags & SA_SIGINFO) action.sa_sigaction(number, info, machine);
    else action.sa_handler(number);
}

static uintptr_t instruction(const ucontext_t *machine) {
#if defined(__linux__) && defined(__x86_64__)
    return (uintptr_t)machine->uc_mcontext.gregs[REG_RIP];
#elif defined(__linux__) && defined(__aarch64__)
    return (uintptr_t)machine->uc_mcontext.pc;
#else
    (void)machine;
    return 0; /* not used: no calls are redirected there */
#endif
}

static void on_signal(int number, siginfo_t *info, void *machine) {
    int i = index_of(number), error = errno;
    full_handler engines = LOAD(table[i].engines);
    int is_done = 0;
    if (engines && (info->si_code > 0 || LOAD(table[i].previous_decides))) { /* si_code <= 0: it was sent, so it is no trap */
        uintptr_t before = instruction(machine);
        engines(number, info, machine);
        is_done = instruction(machine) != before ||
                  LOAD(table[i].previous_decides); /* after a trap, the thread goes on at another instruction */
    }
    if (!is_done) to_others(i, info, machine);
    errno = error;
}

/* ---- redirected calls */
int others_sigaction(int number, const struct sigaction *action, struct sigaction *before) {
    int i = index_of(number);
    if (i < 0 || !is_ours()) return sigaction(number, action, before);
    sigset_t mask;
    struct sigaction new, old; /* copied before the lock is taken: with a bad pointer that faults */
    if (action) new = *action;
    int is_found = action && !LOAD(table[i].engines) && is_engines(&new); /* before the lock: is_engines waits for the loader's */
    lock(&mask);
    full_handler engines = LOAD(table[i].engines);
    old = table[i].others[table[i].current];
    /* Code whose call was not redirected yet has got the core's or the engine's handler as the old one, and may put that back. */
    int puts_back = action && (new.sa_sigaction == on_signal || (engines && new.sa_sigaction == engines));
    if (is_found && !engines) { /* it was installed after an engine that was there before the core */
        STORE(table[i].engines, new.sa_sigaction);
        STORE(table[i].previous_decides, 1);
        memset(&new, 0, sizeof new);
        put(i, &new);
    } else if (action && !puts_back) {
        STORE(table[i].previous_decides, 0);
        put(i, &new);
    }
    unlock(&mask);
    if (before) *before = old;
    return 0;
}

/* wasmtime installs its handlers once. For a fault that is no trap it calls the handler that it found then. Here it finds the
   default one, and so would install that: this tells the core that the fault is for other code. */
int engines_sigaction(int number, const struct sigaction *action, struct sigaction *before) {
    int i = index_of(number);
    if (i < 0 || !is_ours()) return sigaction(number, action, before);
    if (before) {
        memset(before, 0, sizeof *before);
        before->sa_sigaction = LOAD(table[i].engines);
    }
    if (action && is_function(action)) STORE(table[i].engines, action->sa_sigaction);
    if (action) STORE(table[i].previous_decides, 0);
    return 0;
}

static plain_handler install(int number, plain_handler handler, int flags) {
    struct sigaction action, before;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = flags;
    if (!(flags & SA_NODEFER)) sigaddset(&action.sa_mask, number);
    return others_sigaction(number, &action, &before) ? SIG_ERR : before.sa_handler;
}
static plain_handler others_signal(int number, plain_handler handler) {
    return index_of(number) < 0 ? signal(number, handler) : install(number, handler, SA_RESTART);
}
static plain_handler others_sysv_signal(int number, plain_handler handler) {
    return install(number, handler, (int)SA_RESETHAND | SA_NODEFER);
}

typedef void (*any)(void);
static const struct redirection redirections[] = {
    {"sigaction", (any)others_sigaction, (any)engines_sigaction},
    {"__sigaction", (any)others_sigaction, NULL},
    {"signal", (any)others_signal, NULL},
    {"bsd_signal", (any)others_signal, NULL},
    {"ssignal", (any)others_signal, NULL},
    {"sysv_signal", (any)others_sysv_signal, NULL},
    {"__sysv_signal", (any)others_sysv_signal, NULL},
};
enum { REDIRECTIONS = sizeof redirections / sizeof *redirections };

void handlers_take(const void *engine) {
    struct sigaction found[COUNT], before;
    int engines = 0;
    sigset_t mask;
    engines_library = engine;
    if (LOAD(taken) || !redirect_calls(redirections, REDIRECTIONS, engine)) return;
    for (int i = 0; i < COUNT; i++)
        if (!sigaction(numbers[i], NULL, &found[i]) && is_engines(&found[i])) engines |= 1 << i;
    owner = this_process();
    lock(&mask);
    STORE(taken, 1); /* first: calls of other threads now come here, and wait for the lock */
    for (int i = 0; i < COUNT; i++) {
        kept[i].sa_sigaction = on_signal;
        kept[i].sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER; /* the flags of wasmtime's own handlers */
        if (sigaction(numbers[i], &kept[i], &before)) continue;
        if (engines >> i & 1 && before.sa_sigaction == found[i].sa_sigaction) { /* the handler that it found is not known */
            table[i].engines = before.sa_sigaction;
            table[i].previous_decides = 1;
            memset(&before, 0, sizeof before);
        }
        put(i, &before);
        known |= 1 << i;
    }
    unlock(&mask);
}

void handlers_redirect(void) {
    if (LOAD(taken) && redirect_is_due()) redirect_calls(redirections, REDIRECTIONS, engines_library);
}

/* ---- keeping the handlers in place */
CLOCHE_EXPORT int cloche_note_handlers(void) {
    int found = 0;
    sigset_t mask;
    lock(&mask);
    for (int i = 0; i < COUNT; i++) {
        struct sigaction action;
        if (taken) {
            found |= !!LOAD(table[i].engines) << i;
        } else if (known >> i & 1) {
            found |= 1 << i;
        } else if (!sigaction(numbers[i], NULL, &action) && is_engines(&action)) {
            kept[i] = action; /* before `known` says so: then the timer's thread reads it without the lock */
            found |= 1 << i;
        }
    }
    if (!taken) __atomic_store_n(&known, found, __ATOMIC_RELEASE);
    unlock(&mask);
    return found;
}

CLOCHE_EXPORT int cloche_keep_handlers(void) {
    int replaced = 0, mine = __atomic_load_n(&known, __ATOMIC_ACQUIRE);
    for (int i = 0; i < COUNT; i++) {
        struct sigaction now;
        if (!(mine >> i & 1) || sigaction(numbers[i], NULL, &now) || now.sa_sigaction == kept[i].sa_sigaction) continue;
        sigaction(numbers[i], &kept[i], NULL);
        replaced = 1;
    }
    if (replaced) __atomic_add_fetch(&cloche_handlers_replaced, 1, __ATOMIC_RELAXED);
    return replaced;
}

/* Four system calls take a microsecond on some machines. So only SIGSEGV is checked each time, as every crash reporter installs
   a handler of it, and the others every few milliseconds. */
enum { LOOK_EVERY_NS = 4 * 1000 * 1000 };

void handlers_look(void) {
    struct timespec t;
    struct sigaction first;
    if ((__atomic_load_n(&known, __ATOMIC_ACQUIRE) & 1) && !sigaction(SIGSEGV, NULL, &first) &&
        first.sa_sigaction != kept[0].sa_sigaction)
        cloche_keep_handlers();
#ifdef CLOCK_MONOTONIC_COARSE
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
#else
    clock_gettime(CLOCK_MONOTONIC, &t);
#endif
    int64_t now = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    if (now - __atomic_load_n(&looked_at, __ATOMIC_RELAXED) < LOOK_EVERY_NS) return;
    __atomic_store_n(&looked_at, now, __ATOMIC_RELAXED);
    cloche_keep_handlers();
}
