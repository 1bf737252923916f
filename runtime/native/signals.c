/* Compiled WebAssembly relies on the engine's handlers: an access out of bounds is a SIGSEGV that wasmtime turns into a trap. wasmtime
   installs them once in a process, with the first engine. A handler that is installed later (faulthandler.enable(), signal.signal)
   would get the signal first: so wasmtime's are noted, and put back before a guest is entered, by the timer while guests run, and
   before one is made to fault. */
#define _GNU_SOURCE
#include "signals.h"
#include "cloche.h"
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static const int numbers[] = {SIGSEGV, SIGILL, SIGFPE, SIGBUS};
enum { COUNT = sizeof numbers / sizeof *numbers };
static struct sigaction noted[COUNT];
static int known; /* which of them are the engine's; written once */
CLOCHE_EXPORT uint64_t cloche_handlers_replaced; /* how often somebody else's had to be replaced */
static int64_t looked_at;

static int is_engines(const struct sigaction *action) {
    Dl_info info;
    void *handler;
    memcpy(&handler, &action->sa_sigaction, sizeof handler);
    return dladdr(handler, &info) && info.dli_fname && strstr(info.dli_fname, "wasmtime");
}

CLOCHE_EXPORT int cloche_note_handlers(void) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    int found = __atomic_load_n(&known, __ATOMIC_ACQUIRE);
    for (int i = 0; i < COUNT; i++) {
        struct sigaction action;
        if (found >> i & 1) continue; /* the timer's thread reads it without a lock */
        if (sigaction(numbers[i], NULL, &action) || !is_engines(&action)) continue;
        noted[i] = action;
        found |= 1 << i;
    }
    __atomic_store_n(&known, found, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&lock);
    return found;
}

CLOCHE_EXPORT int cloche_keep_handlers(void) {
    int replaced = 0, mine = __atomic_load_n(&known, __ATOMIC_ACQUIRE);
    for (int i = 0; i < COUNT; i++) {
        struct sigaction now;
        if (!(mine >> i & 1) || sigaction(numbers[i], NULL, &now) || now.sa_sigaction == noted[i].sa_sigaction) continue;
        sigaction(numbers[i], &noted[i], NULL);
        replaced = 1;
    }
    if (replaced) __atomic_add_fetch(&cloche_handlers_replaced, 1, __ATOMIC_RELAXED);
    return replaced;
}

/* Four system calls are a microsecond on some machines, so three signals are looked at every few milliseconds, and SIGSEGV always:
   whoever installs handlers of crashes (faulthandler, crash reporters) installs that one. What Python code does to the others,
   Python notices (fault_handlers.py). */
enum { LOOK_EVERY_NS = 4 * 1000 * 1000 };

void signals_look(void) {
    struct timespec t;
    struct sigaction first;
    if ((__atomic_load_n(&known, __ATOMIC_ACQUIRE) & 1) && !sigaction(SIGSEGV, NULL, &first) &&
        first.sa_sigaction != noted[0].sa_sigaction)
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

void signals_unblock(sigset_t *before) {
    sigset_t these;
    sigemptyset(&these);
    for (int i = 0; i < COUNT; i++) sigaddset(&these, numbers[i]);
    pthread_sigmask(SIG_UNBLOCK, &these, before);
}

void signals_restore(const sigset_t *before) {
    for (int i = 0; i < COUNT; i++)
        if (sigismember(before, numbers[i])) {
            pthread_sigmask(SIG_SETMASK, before, NULL);
            return;
        }
}

/* wasmtime's handlers run on an alternate stack of the thread, and wasmtime ends the process if it cannot allocate one when the thread
   first enters a guest. So each thread gets one beforehand, where that can fail like everything else; wasmtime takes what it finds. */
#ifdef __APPLE__
int signals_stack(void) { return 1; } /* traps come another way there */
#else
enum { HANDLER_STACK_BYTES = 256 << 10 }; /* the least that wasmtime takes */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t of_thread;
static int has_key;

static size_t guard_bytes(void) { return (size_t)sysconf(_SC_PAGESIZE); }

static void drop_stack(void *start) {
    stack_t now, none;
    memset(&none, 0, sizeof none);
    none.ss_flags = SS_DISABLE;
    if (!sigaltstack(NULL, &now) && now.ss_sp == (char *)start + guard_bytes()) sigaltstack(&none, NULL);
    munmap(start, guard_bytes() + HANDLER_STACK_BYTES);
}

static void make_key(void) { has_key = !pthread_key_create(&of_thread, drop_stack); }

int signals_stack(void) {
    stack_t stack;
    if (!sigaltstack(NULL, &stack) && !(stack.ss_flags & SS_DISABLE) && stack.ss_size >= HANDLER_STACK_BYTES) return 1;
    pthread_once(&once, make_key);
    if (!has_key) return 1; /* as it was: nobody would free it */
    char *start = mmap(NULL, guard_bytes() + HANDLER_STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) return 0;
    memset(&stack, 0, sizeof stack);
    stack.ss_sp = start + guard_bytes();
    stack.ss_size = HANDLER_STACK_BYTES;
    if (mprotect(start, guard_bytes(), PROT_NONE) || pthread_setspecific(of_thread, start) || sigaltstack(&stack, NULL)) {
        pthread_setspecific(of_thread, NULL);
        munmap(start, guard_bytes() + HANDLER_STACK_BYTES);
        return 0;
    }
    return 1;
}
#endif
