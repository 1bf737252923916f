/* A fake engine: it behaves towards the core as wasmtime does, but its guests are C functions that follow a script. And what the
   cases have in common. */
#ifndef FAKE_H
#define FAKE_H

#include "core.h"
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The parts of a guest's linear memory. */
enum {
    PAGE = 65536,
    FAKE_RING = PAGE,
    FAKE_NOTICE = PAGE + 64,
    FAKE_BREAKER = PAGE + 128,
    FAKE_LAYOUT = PAGE + 192,
    FAKE_REQUEST = PAGE + 256,
    FAKE_REQUEST_BYTES = 256,
    FAKE_HEAP = 2 * PAGE,
    FAKE_PAGES = 4,
    FAKE_MOST_PAGES = 16,
    FAKE_BREAKER_BIT = 32
};

/* What stands for a module: how its allocator and its instantiation behave. Change it between calls only. */
struct fake_program {
    enum {
        ALLOC_WORKS,
        ALLOC_IS_FULL,
        ALLOC_GIVES_PAGE_0,
        ALLOC_GIVES_OUTSIDE,
        ALLOC_TRAPS,
        ALLOC_ASKS,
        ALLOC_POLLS,
        ALLOC_LOOPS
    } alloc;
    enum { FREE_WORKS, FREE_ASKS, FREE_TRAPS } free;
    enum { BIRTH_WORKS, BIRTH_ERROR, BIRTH_TRAP, BIRTH_WITHOUT_NOTICE, BIRTH_CALLS_IMPORTS } birth;
};
extern struct fake_program program;

/* Called by the engine's functions, if set: a case does there what another thread might do at that moment. */
struct fake_hooks {
    void (*memory_size)(void);
    void (*set_fuel)(void);
    void (*set_epoch_deadline)(void);
    void (*broadcast)(void);      /* pthread_cond_broadcast: another thread changes what is armed */
    void (*epoch_callback)(void); /* after the core's callback, before its answer counts */
};
extern struct fake_hooks hooks;

/* What the system refuses, if set (see the wrappers in fake.c): how many of the next calls fail. */
extern int fail_mmap, fail_mprotect, fail_thread;

struct fake_engine {
    uint64_t epoch;
};
struct cloche_image fake_image(enum cloche_metering metering);
void fake_start(void);

/* An engine that was made before cloche_start, and the handler of faults that it found, if set; the default is all zeros. */
extern const struct sigaction *fake_engine_before;
void fake_engine_start(void);
extern int no_redirection; /* as on a system where no calls can be redirected */

/* Stores, traps, errors, texts that exist. */
int64_t fake_live(void);

extern const engine_callback cloche_imports[];

/* Cases: one process each, named on the command line. */
void add_case(const char *name, void (*run)(void), int starts);
#define CASE(name) A_CASE(name, 1)
#define CASE_WITHOUT_START(name) A_CASE(name, 0) /* it calls fake_start itself */
#define A_CASE(name, starts) \
    static void name(void); \
    __attribute__((constructor)) static void add_##name(void) { add_case(#name, name, starts); } \
    static void name(void)

#define CHECK(truth) ((truth) ? (void)0 : check_failed(__FILE__, __LINE__, #truth))
#define SAME(have, want) check_same(__FILE__, __LINE__, #have, (int64_t)(have), (int64_t)(want))
_Noreturn void check_failed(const char *file, int line, const char *what);
void check_same(const char *file, int line, const char *what, int64_t have, int64_t want);

/* One guest of a case. */
struct made {
    uint64_t handle, *words;
};
struct made make(struct cloche_image *image);
int run(struct made guest, const char *script);
void on_thread(void *(*work)(void *), void *argument, size_t stack_bytes); /* runs it, and waits for it */
int print_results(int count, char **arguments); /* `print START_WORDS... -- SCRIPT...`: for comparing with Python */
enum { SECOND = 1000000000 };

#endif
