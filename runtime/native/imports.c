/* The six functions that a guest can call. They run on the guest's stack. `call`, `poll` and a long `sleep` need Python: they
   leave the stack, and Python lets the guest go on there with its answer. */
#define _GNU_SOURCE
#include "core.h"
#include <string.h>
#include <time.h>

static void *stopped(struct guest *guest, uint64_t reason) {
    if (reason && !guest->trapped) set_stop(guest, reason);
    return engine.trap_new("stopped", 7);
}

/* A start function of a module may call an import before there is a guest. */
static void *unborn(void) { return engine.trap_new("stopped", 7); }

/* Whether the guest must not run on: it has been stopped, or Python unwinds it. */
static int must_stop(struct guest *guest) { return LOAD(guest->stop) || guest->command == UNWIND; }

/* Leave the stack with that status until Python lets the guest go on; meanwhile run the exports that Python calls. */
static void wait_for_python(struct guest *guest, int status) {
    guest_wait(guest, status);
    while (guest->command == RUN_EXPORT) {
        guest->inside_ask = 1;
        int done = guest_run(guest);
        guest->inside_ask = 0;
        guest_wait(guest, done);
    }
}

static const int64_t MONOTONIC_START = 1000000000; /* not 0, which programs take for a clock that was never read */

static int64_t sum(uint64_t a, uint64_t b, uint64_t c) {
    uint64_t total = a + b + c; /* each is below 2^63: two of them cannot wrap, three are caught here */
    return total > INT64_MAX || total < a ? INT64_MAX : (int64_t)total;
}

static void *clock_import(void *env, void *caller, union engine_raw *values, size_t count) {
    (void)env, (void)caller, (void)count;
    struct guest *guest = current_guest();
    if (!guest) return unborn();
    uint64_t *words = guest->words;
    int which = values[0].i32;
    if (words[WORD_CLOCK_MODE] != CLOCK_MODE_REAL) {
        uint64_t stepped = words[WORD_CLOCK_STEPPED], after = stepped + words[WORD_CLOCK_STEP];
        words[WORD_CLOCK_STEPPED] = after > INT64_MAX ? INT64_MAX : after;
        values[0].i64 = which == CLOCK_ID_REALTIME    ? sum(words[WORD_CLOCK_START], words[WORD_CLOCK_SLEPT], stepped)
                        : which == CLOCK_ID_MONOTONIC ? sum((uint64_t)MONOTONIC_START, words[WORD_CLOCK_SLEPT], stepped)
                                                      : (int64_t)stepped;
        return NULL;
    }
    struct timespec t;
    clock_gettime(which == CLOCK_ID_REALTIME    ? CLOCK_REALTIME
                  : which == CLOCK_ID_MONOTONIC ? CLOCK_MONOTONIC
                                                : CLOCK_THREAD_CPUTIME_ID,
                  &t);
    values[0].i64 = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    return NULL;
}

static void *random_import(void *env, void *caller, union engine_raw *values, size_t count) {
    (void)env, (void)caller, (void)count;
    struct guest *guest = current_guest();
    if (!guest) return unborn();
    values[0].i64 = (int64_t)random_word(guest);
    return NULL;
}

static void *sleep_import(void *env, void *caller, union engine_raw *values, size_t count) {
    (void)env, (void)caller, (void)count;
    struct guest *guest = current_guest();
    if (!guest) return unborn();
    int64_t span = values[0].i64 < 0 ? 0 : values[0].i64, now = clock_now();
    int64_t until = span > INT64_MAX - now ? INT64_MAX - 1 : now + span;
    if (guest->words[WORD_CLOCK_MODE] != CLOCK_MODE_REAL) {
        if (guest->words[WORD_CLOCK_MODE] == CLOCK_MODE_MOVING) {
            uint64_t slept = guest->words[WORD_CLOCK_SLEPT] + (uint64_t)span;
            guest->words[WORD_CLOCK_SLEPT] = slept > INT64_MAX ? INT64_MAX : slept;
        }
        until = now; /* no time passes */
    }
    for (;;) {
        switch (timer_sleep(guest, until)) {
        case WOKEN_TIME: values[0].i64 = 0; return NULL;
        case WOKEN_NOTICE: /* CPython then looks for signals, and so finds the notice */ values[0].i64 = WASI_EINTR; return NULL;
        case WOKEN_STOP: return stopped(guest, 0);
        case WOKEN_POLL:
            if (guest->inside_ask) break;
            wait_for_python(guest, CLOCHE_POLLS);
            if (must_stop(guest)) return stopped(guest, CLOCHE_ABANDONED);
        }
    }
}

static void *exit_import(void *env, void *caller, union engine_raw *values, size_t count) {
    (void)env, (void)caller, (void)count;
    struct guest *guest = current_guest();
    if (!guest) return unborn();
    guest->words[WORD_EXIT_CODE] = (uint32_t)values[0].i32;
    return stopped(guest, CLOCHE_EXITED);
}

static void *poll_import(void *env, void *caller, union engine_raw *values, size_t count) {
    (void)env, (void)caller, (void)count;
    struct guest *guest = current_guest();
    if (!guest) return unborn();
    if (!guest->inside_ask) wait_for_python(guest, CLOCHE_POLLS);
    if (must_stop(guest)) return stopped(guest, CLOCHE_ABANDONED);
    values[0].i64 = NOTICE_NONE; /* the guest finds what it is told in its notice word */
    return NULL;
}

static void *call_import(void *env, void *caller, union engine_raw *values, size_t count) {
    (void)env, (void)caller, (void)count;
    struct guest *guest = current_guest();
    if (!guest) return unborn();
    if (!guest->words[WORD_GRANTED]) {
        values[0].i64 = ANSWER_NONE;
        return NULL;
    }
    if (guest->inside_ask) return stopped(guest, CLOCHE_REENTERED); /* from inside node_alloc, node_free or node_check */
    guest->words[WORD_ADDRESS] = (uint32_t)values[0].i32;
    guest->words[WORD_LENGTH] = (uint32_t)values[1].i32;
    wait_for_python(guest, CLOCHE_ASKS);
    if (must_stop(guest)) return stopped(guest, CLOCHE_ABANDONED);
    values[0].i64 = (int64_t)guest->answer;
    return NULL;
}

CLOCHE_EXPORT const engine_callback cloche_imports[] = {clock_import, random_import, sleep_import,
                                                        exit_import,  call_import,   poll_import};
