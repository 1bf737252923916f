/* What the engine's handlers of faults need of a thread: their signals are not blocked, and there is a stack for them. The handlers
   themselves are in handlers.c. */
#define _GNU_SOURCE
#include "signals.h"
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const int numbers[] = {SIGSEGV, SIGILL, SIGFPE, SIGBUS};
enum { COUNT = sizeof numbers / sizeof *numbers };

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

/* wasmtime's handlers run on an alternate stack of the thread. When a thread first enters a guest, wasmtime allocates that
   stack, and ends the process if it cannot. So each thread gets one before, where a failure can be reported; wasmtime uses the
   stack that it finds. */
#ifdef __APPLE__
int signals_stack(void) { return 1; } /* traps are no signals there */
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
    if (!has_key) return 1; /* leave it to wasmtime: a stack made here would never be freed */
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
