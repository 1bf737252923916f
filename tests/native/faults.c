/* Handlers of faults: the engine's comes first, then those that other libraries have installed by redirected calls. */
#define _GNU_SOURCE
#include "fake.h"
#include "handlers.h"
#include <dlfcn.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static struct cloche_image image;

/* ---- two libraries that install handlers: one has its slots filled by the first call, one when it is loaded, and then
   read-only */
struct stranger {
    int (*sigaction)(int, const struct sigaction *, struct sigaction *);
    sighandler_t (*signal)(int, sighandler_t), (*sysv_signal)(int, sighandler_t), handler;
    int *calls;
};
static const char *const libraries[] = {"lazy", "now"};
enum { LIBRARIES = 2 };

static struct stranger loaded(const char *name) {
    char path[4096];
    struct stranger made;
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 32);
    CHECK(length > 0);
    path[length] = 0;
    snprintf(strrchr(path, '/'), 32, "/stranger_%s.so", name);
    void *library = dlopen(path, strcmp(name, "now") ? RTLD_LAZY : RTLD_NOW);
    CHECK(library);
    *(void **)&made.sigaction = dlsym(library, "stranger_sigaction");
    *(void **)&made.signal = dlsym(library, "stranger_signal");
    *(void **)&made.sysv_signal = dlsym(library, "stranger_sysv_signal");
    *(void **)&made.handler = dlsym(library, "stranger_handler");
    made.calls = dlsym(library, "stranger_calls");
    CHECK(made.sigaction && made.signal && made.sysv_signal);
    return made;
}
static struct stranger stranger(const char *name) {
    struct stranger made = loaded(name);
    handlers_redirect();
    return made;
}

static int calls, last_code, was_blocked;
static void plain(int number) {
    sigset_t now;
    (void)number;
    calls++;
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    was_blocked = sigismember(&now, SIGSEGV) | sigismember(&now, SIGUSR2) << 1;
}
static void full(int number, siginfo_t *info, void *machine) {
    CHECK(number == SIGSEGV && machine);
    calls++;
    last_code = info->si_code;
}
static struct sigaction action(void (*handler)(int), int flags) {
    struct sigaction made;
    memset(&made, 0, sizeof made);
    made.sa_handler = handler;
    made.sa_flags = flags;
    return made;
}
static struct sigaction full_action(int flags) {
    struct sigaction made = action(SIG_DFL, SA_SIGINFO | flags);
    made.sa_sigaction = full;
    return made;
}
static void (*kernels(int number))(int) {
    struct sigaction now;
    SAME(sigaction(number, NULL, &now), 0);
    return now.sa_handler;
}
static void traps(void) {
    struct made made = make(&image);
    SAME(run(made, "o"), CLOCHE_TRAPPED);
    SAME(cloche_free(made.handle), CLOCHE_DONE);
}

CASE(handlers_of_others_go_beneath_the_engines) {
    image = fake_image(CLOCHE_GUARD);
    for (int i = 0; i < LIBRARIES; i++) {
        struct stranger other = stranger(libraries[i]);
        void (*cores)(int) = kernels(SIGSEGV);
        struct sigaction mine = action(plain, SA_NODEFER), now;
        SAME(other.sigaction(SIGSEGV, &mine, NULL), 0);
        CHECK(kernels(SIGSEGV) == cores);
        SAME(other.sigaction(SIGSEGV, NULL, &now), 0);
        CHECK(now.sa_handler == plain && now.sa_flags & SA_NODEFER);
        traps();
        SAME(calls, 0);
        SAME(raise(SIGSEGV), 0);
        SAME(calls, 1);
        CHECK(other.signal(SIGSEGV, SIG_IGN) == plain);
        traps();
        SAME(raise(SIGSEGV), 0);
        SAME(calls, 1);
        CHECK(other.sysv_signal(SIGSEGV, plain) == SIG_IGN);
        SAME(raise(SIGSEGV), 0);
        SAME(calls, 2);
        CHECK(other.signal(SIGSEGV, SIG_IGN) == SIG_DFL); /* it was for one signal only */
        SAME(cloche_keep_handlers(), 0);
        SAME(cloche_handlers_replaced, 0);
        CHECK(other.signal(SIGUSR1, plain) == SIG_DFL); /* a signal that is not the engine's */
        CHECK(kernels(SIGUSR1) == plain);
        CHECK(other.sysv_signal(SIGUSR1, SIG_DFL) == plain);
        CHECK(kernels(SIGUSR1) == SIG_DFL);
        SAME(other.sigaction(12345, &mine, NULL), -1);
        calls = 0;
    }
    free(image.engine);
}

CASE(libraries_that_are_loaded_later_are_redirected_with_the_next_guest) {
    struct sigaction mine = action(plain, 0);
    struct stranger other = loaded("now");
    image = fake_image(CLOCHE_GUARD);
    SAME(other.sigaction(SIGSEGV, &mine, NULL), 0);
    CHECK(kernels(SIGSEGV) == plain);
    traps(); /* put back */
    SAME(cloche_handlers_replaced, 1);
    SAME(other.sigaction(SIGSEGV, &mine, NULL), 0);
    traps();
    SAME(cloche_handlers_replaced, 1);
    SAME(raise(SIGSEGV), 0);
    SAME(calls, 1);
    free(image.engine);
}

CASE(a_handler_of_others_is_called_as_the_kernel_would) {
    struct stranger other = stranger("lazy");
    struct sigaction mine = action(plain, 0);
    sigaddset(&mine.sa_mask, SIGUSR2);
    SAME(other.sigaction(SIGSEGV, &mine, NULL), 0);
    SAME(raise(SIGSEGV), 0);
    SAME(was_blocked, 3);
    mine.sa_flags = SA_NODEFER;
    sigemptyset(&mine.sa_mask);
    SAME(other.sigaction(SIGSEGV, &mine, NULL), 0);
    SAME(raise(SIGSEGV), 0);
#ifndef __SANITIZE_THREAD__ /* which blocks all signals in all handlers */
    SAME(was_blocked, 0);
#endif
    SAME(calls, 2);
    struct sigaction once = full_action(SA_RESETHAND), now;
    SAME(other.sigaction(SIGSEGV, &once, NULL), 0);
    SAME(raise(SIGSEGV), 0);
    SAME(last_code, SI_TKILL);
    SAME(other.sigaction(SIGSEGV, NULL, &now), 0);
    CHECK(now.sa_handler == SIG_DFL);
}

/* Garbage collectors do that. */
static char *page;
static void unlock_page(int number, siginfo_t *info, void *machine) {
    (void)number, (void)machine;
    CHECK((char *)info->si_addr == page + 8);
    calls++;
    SAME(mprotect(page, PAGE, PROT_READ | PROT_WRITE), 0);
}
static void faults_once(int (*install)(int, const struct sigaction *, struct sigaction *)) {
    struct sigaction mine = full_action(SA_ONSTACK);
    mine.sa_sigaction = unlock_page;
    page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SAME(install(SIGSEGV, &mine, NULL), 0);
    ((volatile char *)page)[8] = 1;
    SAME(page[8], 1);
    SAME(munmap(page, PAGE), 0);
}
CASE(a_handler_of_others_can_mend_a_fault) {
    faults_once(stranger("now").sigaction);
    SAME(calls, 1);
}

/* ---- the end of a process, in a child. Sanitizers have handlers of their own: first the default. */
static void write_to_nothing(void) { *(volatile char *)page = 1; }
static void send(void) { kill(getpid(), SIGSEGV); }
static void send_while_blocked(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGSEGV);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    raise(SIGSEGV);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}
static void ends(void (*how)(void)) {
    int status;
    pid_t child = fork();
    if (!child) {
        alarm(20);
        how();
        _exit(0);
    }
    SAME(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status));
    SAME(WTERMSIG(status), SIGSEGV);
}
CASE(without_a_handler_of_others_the_process_ends) {
    struct stranger other = stranger("lazy");
    page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    other.signal(SIGSEGV, SIG_DFL);
    ends(write_to_nothing), ends(send), ends(send_while_blocked);
    other.signal(SIGSEGV, SIG_IGN);
    ends(write_to_nothing); /* a fault cannot be ignored */
    send();
}

/* As faulthandler does: it restores what was there, and sends the signal again. */
static struct stranger chained;
static struct sigaction chained_before;
static void chain(int number) {
    chained.sigaction(number, &chained_before, NULL);
    raise(number);
}
CASE(a_handler_of_others_that_passes_the_signal_on) {
    chained = stranger("now");
    page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    chained.signal(SIGSEGV, SIG_DFL);
    struct sigaction mine = action(chain, SA_NODEFER);
    SAME(chained.sigaction(SIGSEGV, &mine, &chained_before), 0);
    ends(write_to_nothing), ends(send);
    mine.sa_flags = 0; /* the second signal comes when the handler has returned */
    SAME(chained.sigaction(SIGSEGV, &mine, NULL), 0);
    ends(write_to_nothing), ends(send);
}

/* Code may have saved the core's own handler before its calls were redirected. Restoring that must not install anything. */
CASE(the_cores_own_handler_is_not_put_beneath_itself) {
    struct stranger other = stranger("lazy");
    struct sigaction saved, now, mine = action(plain, 0);
    SAME(sigaction(SIGSEGV, NULL, &saved), 0);
    SAME(other.sigaction(SIGSEGV, &mine, NULL), 0);
    SAME(other.sigaction(SIGSEGV, &saved, NULL), 0);
    SAME(other.sigaction(SIGSEGV, NULL, &now), 0);
    CHECK(now.sa_handler == plain);
}

/* ---- at the same time */
static int over;
static struct stranger both[LIBRARIES];
static void *changes_handlers(void *number) {
    struct stranger *other = &both[(size_t)number];
    struct sigaction one = action(plain, 0), two = full_action(0), before;
    while (!LOAD(over)) {
        SAME(other->sigaction(SIGSEGV, &one, &before), 0);
        SAME(other->sigaction(SIGSEGV, &two, NULL), 0);
        SAME(other->sigaction(SIGSEGV, &before, NULL), 0);
        other->signal(SIGSEGV, SIG_DFL);
    }
    return NULL;
}
static void *traps_often(void *rounds) {
    for (size_t i = 0; i < (size_t)rounds; i++) traps();
    return NULL;
}
CASE(a_trap_is_a_trap_while_others_change_handlers) {
#ifdef SLOW
    enum { ROUNDS = 200 };
#else
    enum { ROUNDS = 2000 };
#endif
    pthread_t changing[LIBRARIES], trapping[3];
    image = fake_image(CLOCHE_GUARD);
    for (size_t i = 0; i < LIBRARIES; i++) {
        both[i] = stranger(libraries[i]);
        SAME(pthread_create(&changing[i], NULL, changes_handlers, (void *)i), 0);
    }
    for (int i = 0; i < 3; i++) SAME(pthread_create(&trapping[i], NULL, traps_often, (void *)(size_t)ROUNDS), 0);
    for (int i = 0; i < 3; i++) pthread_join(trapping[i], NULL);
    STORE(over, 1);
    for (int i = 0; i < LIBRARIES; i++) pthread_join(changing[i], NULL);
    SAME(cloche_handlers_replaced, 0);
    free(image.engine);
}

CASE(a_fork_while_others_change_handlers) {
    pthread_t changing[LIBRARIES];
    for (size_t i = 0; i < LIBRARIES; i++) {
        both[i] = stranger(libraries[i]);
        SAME(pthread_create(&changing[i], NULL, changes_handlers, (void *)i), 0);
    }
    for (int i = 0; i < 100; i++) {
        int status;
        pid_t child = fork();
        if (!child) {
            alarm(20);
            both[0].signal(SIGSEGV, SIG_IGN);
            raise(SIGSEGV);
            _exit(3);
        }
        SAME(waitpid(child, &status, 0), child);
        SAME(status, 3 << 8);
    }
    STORE(over, 1);
    for (int i = 0; i < LIBRARIES; i++) pthread_join(changing[i], NULL);
}

/* ---- an engine that was made before the core was loaded */
static void mended_by_what_was_there(void) {
    struct sigaction mine = full_action(SA_ONSTACK);
    mine.sa_sigaction = unlock_page;
    fake_engine_before = &mine;
    fake_start();
}
CASE_WITHOUT_START(an_engine_that_was_there_first_passes_faults_to_what_it_found) {
    mended_by_what_was_there();
    image = fake_image(CLOCHE_GUARD);
    CHECK(cloche_note_handlers() & 1);
    traps();
    page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ((volatile char *)page)[8] = 1;
    SAME(calls, 1);
    traps();
    free(image.engine);
}
CASE_WITHOUT_START(handlers_that_are_installed_after_such_an_engine_count_as_well) {
    static struct sigaction nothing;
    fake_engine_before = &nothing;
    fake_start();
    image = fake_image(CLOCHE_GUARD);
    faults_once(stranger("now").sigaction);
    SAME(calls, 1);
    traps();
    stranger("now").signal(SIGSEGV, SIG_DFL);
    page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ends(write_to_nothing);
    free(image.engine);
}
CASE_WITHOUT_START(an_engine_that_was_there_first_is_found_beneath_others) {
    static struct sigaction nothing;
    struct stranger other = stranger("now");
    struct sigaction mine = action(other.handler, 0), engines;
    fake_engine_before = &nothing;
    fake_engine_start();
    SAME(sigaction(SIGSEGV, &mine, &engines), 0);
    fake_start();
    SAME(cloche_note_handlers(), 0);
    SAME(raise(SIGSEGV), 0);
    SAME(*other.calls, 1);
    SAME(other.sigaction(SIGSEGV, &engines, NULL), 0); /* faulthandler.disable() */
    CHECK(cloche_note_handlers() & 1);
    image = fake_image(CLOCHE_GUARD);
    traps();
    SAME(*other.calls, 1);
    free(image.engine);
}

/* ---- where no calls can be redirected */
CASE_WITHOUT_START(without_redirection_the_engines_handlers_are_put_back) {
    no_redirection = 1;
    fake_start();
    image = fake_image(CLOCHE_GUARD);
    CHECK(cloche_note_handlers() & 1);
    traps();
    signal(SIGSEGV, SIG_DFL);
    traps();
    signal(SIGSEGV, SIG_IGN);
    CHECK(cloche_note_handlers() & 1); /* the ones noted first count: this one is nobody's */
    SAME(cloche_keep_handlers(), 1);
    SAME(cloche_keep_handlers(), 0);
    traps();
    free(image.engine);
}
