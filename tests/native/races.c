/* Deadlines, notices and cancels that come from other threads at any moment. */
#define _GNU_SOURCE
#include "fake.h"
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <ucontext.h>

static struct cloche_image image;
static struct made guest;

static void one(enum cloche_metering metering, int64_t deadline, int64_t grace) {
    image = fake_image(metering);
    guest = make(&image);
    guest.words[WORD_GRANTED] = 1;
    guest.words[WORD_DEADLINE_NS] = (uint64_t)deadline;
    guest.words[WORD_GRACE_NS] = (uint64_t)grace;
    guest.words[WORD_FUEL] = INT64_MAX;
}
static void gone(void) {
    SAME(cloche_free(guest.handle), CLOCHE_DONE);
    free(image.engine);
}
static const int kinds[] = {CLOCHE_GUARD, CLOCHE_EPOCH, CLOCHE_FUEL};
enum { MS = 1000000, HOUR = 3600 };
#ifdef SLOW
enum { STORM = 2000, COMERS = 150 };
#else
enum { STORM = 20000, COMERS = 800 };
#endif
#define LONG ((int64_t)HOUR * SECOND)

CASE(a_deadline_without_grace_stops) {
    for (int i = 0; i < 3; i++) {
        one(kinds[i], 2 * MS, 0);
        SAME(run(guest, "l"), CLOCHE_TRAPPED);
        SAME(guest.words[WORD_STOPPED], CLOCHE_DEADLINE);
        SAME(guest.words[WORD_STATE], CLOCHE_BROKEN);
        SAME(guest.words[WORD_TOLD], 0);
        gone();
    }
}

CASE(a_deadline_tells_before_it_stops) {
    for (int i = 0; i < 3; i++) {
        one(kinds[i], 2 * MS, LONG);
        for (int k = 0; k < 20; k++) {
            SAME(run(guest, "h"), CLOCHE_DONE);
            SAME(guest.words[WORD_RESULT], NOTICE_DEADLINE);
            SAME(guest.words[WORD_TOLD], CLOCHE_DEADLINE);
            guest.words[WORD_DEADLINE_NS] = (uint64_t)LONG;
            SAME(run(guest, "i1"), CLOCHE_DONE); /* nothing is left of it */
            SAME(guest.words[WORD_TOLD], 0);
            SAME(*(uint32_t *)(guest.words[WORD_BASE] + FAKE_NOTICE), 0);
            SAME(*(uint32_t *)(guest.words[WORD_BASE] + FAKE_BREAKER), 0);
            guest.words[WORD_DEADLINE_NS] = MS;
        }
        guest.words[WORD_GRACE_NS] = 2 * MS; /* one that does not listen */
        SAME(run(guest, "l"), CLOCHE_TRAPPED);
        SAME(guest.words[WORD_STOPPED], CLOCHE_DEADLINE);
        SAME(guest.words[WORD_TOLD], CLOCHE_DEADLINE);
        gone();
    }
}

CASE(a_deadline_ends_a_sleep) {
    static const int all[] = {CLOCHE_GUARD, CLOCHE_EPOCH, CLOCHE_FUEL, CLOCHE_UNMETERED};
    for (int i = 0; i < 4; i++) {
        one(all[i], 2 * MS, LONG);
        SAME(run(guest, "s9223372036854775807"), CLOCHE_DONE);
        SAME(guest.words[WORD_RESULT], WASI_EINTR);
        guest.words[WORD_GRACE_NS] = 0;
        SAME(run(guest, "s999999999999"), CLOCHE_TRAPPED);
        SAME(guest.words[WORD_STOPPED], CLOCHE_DEADLINE);
        gone();
    }
}

CASE(a_deadline_comes_while_the_guest_waits) {
    for (int i = 0; i < 3; i++) {
        one(kinds[i], 2 * MS, 0);
        SAME(run(guest, "ai1"), CLOCHE_ASKS);
        int64_t until = clock_now() + 20 * MS;
        while (clock_now() < until) sched_yield();
        SAME(cloche_answer(guest.handle, (const uint8_t *)"x", 1, 0), CLOCHE_TRAPPED);
        SAME(guest.words[WORD_STOPPED], CLOCHE_DEADLINE);
        gone();
        one(kinds[i], 2 * MS, 0); /* and inside an export that runs meanwhile */
        SAME(run(guest, "ai1"), CLOCHE_ASKS);
        program.alloc = ALLOC_LOOPS;
        SAME(cloche_enter(guest.handle, CLOCHE_NODE_ALLOC, 4, 0, 0, 0), CLOCHE_TRAPPED);
        SAME(guest.words[WORD_STOPPED], CLOCHE_DEADLINE);
        gone();
        one(kinds[i], 2 * MS, LONG / 2); /* an export at rest hears nothing: it has until the end of the grace */
        guest.words[WORD_GRACE_NS] = 2 * MS;
        SAME(cloche_enter(guest.handle, CLOCHE_NODE_ALLOC, 4, 0, 0, 0), CLOCHE_TRAPPED);
        SAME(guest.words[WORD_STOPPED], CLOCHE_DEADLINE);
        program.alloc = ALLOC_WORKS;
        gone();
    }
}

/* Times near 2^63 must not become times in the past. */
CASE(an_endless_deadline_has_no_end) {
    static const int64_t times[] = {INT64_MAX, INT64_MAX - 1, INT64_MAX / 2 + 1, LONG, -1, INT64_MIN};
    for (int i = 0; i < 6; i++)
        for (int k = 0; k < 6; k++) {
            one(CLOCHE_GUARD, times[i], times[k]);
            guest.words[WORD_POLL_NS] = (uint64_t)times[(i + k) % 6];
            SAME(run(guest, "n1000s1000000i3"), CLOCHE_DONE);
            SAME(guest.words[WORD_RESULT], 3);
            SAME(run(guest, "ai3"), CLOCHE_ASKS);
            SAME(cloche_cancel(guest.handle, 0, CLOCHE_CANCELLED, 0), CLOCHE_DONE);
            SAME(cloche_answer(guest.handle, NULL, 0, 0), CLOCHE_DONE);
            SAME(guest.words[WORD_TOLD], CLOCHE_CANCELLED);
            gone();
        }
}

CASE(python_is_asked_to_look_at_its_signals) {
    one(CLOCHE_GUARD, 0, 0);
    guest.words[WORD_POLL_NS] = MS;
    for (int i = 0; i < 20; i++) {
        SAME(run(guest, "hp"), CLOCHE_POLLS);
        SAME(cloche_go_on(guest.handle), CLOCHE_DONE);
        SAME(*(uint32_t *)(guest.words[WORD_BASE] + FAKE_BREAKER), 0);
    }
    gone();
}

/* ---- cancels */
struct cancel {
    uint64_t serial;
    int now, status;
};
static void *cancel(void *it) {
    struct cancel *job = it;
    while (LOAD(guest.words[WORD_STATE]) != CLOCHE_RUNNING) sched_yield();
    job->status = cloche_cancel(guest.handle, job->serial, CLOCHE_CANCELLED, job->now);
    return NULL;
}
static int cancelled(const char *script, struct cancel job) {
    pthread_t thread;
    SAME(pthread_create(&thread, NULL, cancel, &job), 0);
    int status = run(guest, script);
    pthread_join(thread, NULL);
    SAME(job.status, CLOCHE_DONE);
    return status;
}

CASE(a_cancel_tells_or_stops) {
    static const int all[] = {CLOCHE_GUARD, CLOCHE_EPOCH, CLOCHE_FUEL, CLOCHE_UNMETERED};
    for (int i = 0; i < 4; i++) {
        one(all[i], i % 2 ? LONG : 0, LONG);
        for (int k = 1; k < 20; k++) {
            SAME(cancelled("h", (struct cancel){.serial = k % 2 ? 0 : (uint64_t)k}), CLOCHE_DONE);
            SAME(guest.words[WORD_RESULT], NOTICE_CANCEL);
            SAME(guest.words[WORD_TOLD], CLOCHE_CANCELLED);
        }
        SAME(cancelled("s99999999999999", (struct cancel){0}), CLOCHE_DONE);
        SAME(guest.words[WORD_RESULT], WASI_EINTR);
        guest.words[WORD_GRACE_NS] = 2 * MS; /* one that does not listen is stopped, metered or not */
        SAME(cancelled("l", (struct cancel){0}), CLOCHE_TRAPPED);
        SAME(guest.words[WORD_STOPPED], CLOCHE_CANCELLED);
        gone();
        for (int now = 0; now < 2; now++) {
            one(all[i], 0, now ? LONG : 0);
            SAME(cancelled("l", (struct cancel){.now = now}), CLOCHE_TRAPPED);
            SAME(guest.words[WORD_STOPPED], CLOCHE_CANCELLED);
            gone();
            one(all[i], 0, now ? LONG : 0);
            SAME(cancelled("s99999999999999", (struct cancel){.now = now}), CLOCHE_TRAPPED);
            SAME(guest.words[WORD_STOPPED], CLOCHE_CANCELLED);
            gone();
        }
    }
}

CASE(a_cancel_of_another_call_does_nothing) {
    one(CLOCHE_GUARD, 0, 0);
    SAME(run(guest, "ai3"), CLOCHE_ASKS);
    SAME(cloche_cancel(guest.handle, 2, CLOCHE_CANCELLED, 1), CLOCHE_BUSY);
    SAME(cloche_cancel(guest.handle, UINT64_MAX, CLOCHE_CANCELLED, 1), CLOCHE_BUSY);
    SAME(cloche_answer(guest.handle, NULL, 0, 0), CLOCHE_DONE);
    SAME(cloche_cancel(guest.handle, 1, CLOCHE_CANCELLED, 1), CLOCHE_BUSY);
    SAME(cloche_cancel(guest.handle, 0, CLOCHE_CANCELLED, 1), CLOCHE_BUSY);
    SAME(run(guest, "ai4"), CLOCHE_ASKS);
    SAME(cloche_cancel(guest.handle, 1, CLOCHE_CANCELLED, 1), CLOCHE_BUSY);
    SAME(cloche_answer(guest.handle, NULL, 0, 0), CLOCHE_DONE);
    SAME(guest.words[WORD_STOPPED], 0);
    SAME(run(guest, "a"), CLOCHE_ASKS);
    SAME(cloche_cancel(guest.handle, 3, CLOCHE_CANCELLED, 1), CLOCHE_DONE);
    char byte;
    SAME(cloche_read(guest.handle, 4, &byte, 1), CLOCHE_REFUSED); /* the stop page is locked */
    SAME(cloche_read(guest.handle, FAKE_HEAP, &byte, 1), CLOCHE_DONE);
    SAME(cloche_go_on(guest.handle), CLOCHE_TRAPPED);
    SAME(guest.words[WORD_STOPPED], CLOCHE_CANCELLED);
    gone();
}

/* A cancel that comes while a call is being armed: it is refused if it names no call; otherwise it is accepted, and holds. */
static struct cancel early;
static void *cancel_once(void *nothing) {
    early.status = cloche_cancel(guest.handle, early.serial, CLOCHE_CANCELLED, early.now);
    return nothing;
}
static void cancel_early(void) {
    hooks.set_fuel = hooks.set_epoch_deadline = NULL;
    on_thread(cancel_once, NULL, 0);
}
CASE(a_cancel_that_comes_as_a_call_begins_is_not_lost) {
    for (int i = 0; i < 4; i++) {
        one(i % 2 ? CLOCHE_EPOCH : CLOCHE_FUEL, 0, 2 * MS);
        early = (struct cancel){.now = i / 2};
        hooks.set_fuel = hooks.set_epoch_deadline = cancel_early;
        guest.words[WORD_DEADLINE_NS] = 20 * MS;
        SAME(run(guest, "l"), CLOCHE_TRAPPED);
        SAME(guest.words[WORD_STOPPED], early.status == CLOCHE_DONE ? CLOCHE_CANCELLED : CLOCHE_DEADLINE);
        SAME(early.status, CLOCHE_BUSY);
        gone();
    }
    for (int i = 0; i < 2; i++) {
        one(i ? CLOCHE_EPOCH : CLOCHE_FUEL, 0, LONG);
        SAME(run(guest, "n20"), CLOCHE_DONE);
        early = (struct cancel){.serial = 2};
        hooks.set_fuel = hooks.set_epoch_deadline = cancel_early;
        SAME(run(guest, "h"), CLOCHE_DONE);
        SAME(guest.words[WORD_RESULT], NOTICE_CANCEL);
        SAME(early.status, CLOCHE_DONE);
        SAME(run(guest, "n20"), CLOCHE_DONE);
        SAME(guest.words[WORD_TOLD], CLOCHE_NO_REASON);
        gone();
    }
}

/* Under epochs: a stop that falls between the callback's look and its answer. */
static void cancel_in_callback(void) {
    hooks.epoch_callback = NULL;
    early = (struct cancel){.now = 1};
    on_thread(cancel_once, NULL, 0);
    SAME(early.status, CLOCHE_DONE);
}
static void pass_an_epoch(void) {
    hooks.memory_size = NULL;
    __atomic_add_fetch(&((struct fake_engine *)image.engine)->epoch, 1, __ATOMIC_SEQ_CST);
}
CASE(a_stop_by_epochs_is_not_lost) {
    one(CLOCHE_EPOCH, 0, 0);
    hooks.memory_size = pass_an_epoch; /* as another guest's deadline does: this one's callback finds that it may go on */
    hooks.epoch_callback = cancel_in_callback;
    SAME(run(guest, "l"), CLOCHE_TRAPPED);
    SAME(guest.words[WORD_STOPPED], CLOCHE_CANCELLED);
    gone();
}

static int ends; /* the hook is in the end of a call, not in the middle */
static int free_status, call_status;
static void *free_it(void *nothing) {
    free_status = cloche_free(guest.handle);
    return nothing;
}
static void *call_it(void *nothing) {
    call_status = run(guest, "i1");
    return nothing;
}
static void in_the_end(void) {
    if (!--ends) {
        hooks.memory_size = NULL;
        on_thread(free_it, NULL, 0);
        on_thread(call_it, NULL, 0);
    }
}
/* The thread whose call ends still reads the store: nobody may free the guest, or begin another call. */
CASE(a_guest_is_busy_until_its_call_has_ended) {
    for (int trapped = 0; trapped < 2; trapped++) {
        one(CLOCHE_GUARD, 0, 0);
        ends = 2; /* the first look at the memory's size is for the request */
        hooks.memory_size = in_the_end;
        SAME(run(guest, trapped ? "u" : "i5"), trapped ? CLOCHE_TRAPPED : CLOCHE_DONE);
        SAME(ends, 0);
        SAME(free_status, CLOCHE_BUSY);
        SAME(call_status, CLOCHE_BUSY);
        SAME(guest.words[WORD_STATE], trapped ? CLOCHE_BROKEN : CLOCHE_AT_REST);
        gone();
    }
}

static void free_in_growth(void) {
    hooks.memory_size = NULL;
    on_thread(free_it, NULL, 0);
}
CASE(a_guest_is_not_freed_while_its_memory_grows) {
    one(CLOCHE_GUARD, 0, 0);
    hooks.memory_size = free_in_growth;
    SAME(cloche_grow(guest.handle, 5 * PAGE), CLOCHE_DONE);
    SAME(free_status, CLOCHE_BUSY);
    gone();
}

/* ---- at random moments */
/* Whatever other threads do: once a call has ended, nothing is armed, and nothing of a notice is left. */
static void check_rest(void) {
    struct guest *inside = (struct guest *)guest.words;
    SAME(LOAD(inside->tell_at) | LOAD(inside->stop_at) | LOAD(inside->poll_at) | LOAD(inside->again_at), 0);
    SAME(*(uint32_t *)(guest.words[WORD_BASE] + FAKE_NOTICE), 0);
    SAME(*(uint32_t *)(guest.words[WORD_BASE] + FAKE_BREAKER), 0);
    (void)*(volatile uint32_t *)guest.words[WORD_BASE]; /* the stop page is not locked */
}

static int over;
static uint64_t random_of(uint64_t *state) { return *state = *state * 6364136223846793005 + 1442695040888963407, *state >> 33; }
enum { HITS = 1 << 16 };
static uint8_t tried[HITS], accepted[HITS]; /* serials for which a cancel was asked, and those for which it was accepted */

static void *hammer(void *it) {
    uint64_t state = (uint64_t)(uintptr_t)it;
    while (!LOAD(over)) {
        uint64_t serial = LOAD(guest.words[WORD_SERIAL]);
        if (random_of(&state) % 2) {
            STORE(tried[serial % HITS], 1);
            if (cloche_cancel(guest.handle, serial, CLOCHE_CANCELLED, 0) == CLOCHE_DONE) STORE(accepted[serial % HITS], 1);
        }
        for (uint64_t spin = random_of(&state) % 64; spin; spin--) sched_yield();
    }
    return NULL;
}

/* A call is cancelled only by a cancel that was asked for it; one that was accepted is never lost, and one that was refused is
   never heard. */
static void storm(enum cloche_metering metering, int64_t grace, int calls) {
    pthread_t threads[3];
    over = 0;
    static uint8_t told[HITS];
    uint64_t all = 0;
    memset(tried, 0, sizeof tried), memset(accepted, 0, sizeof accepted), memset(told, 0, sizeof told);
    one(metering, 0, grace);
    for (int i = 0; i < 3; i++) SAME(pthread_create(&threads[i], NULL, hammer, (void *)(uintptr_t)(i + 1)), 0);
    for (int i = 1; i <= calls; i++) {
        int status = run(guest, i % 64 ? "n20" : "h");
        if (i % 64 == 0) SAME(guest.words[WORD_RESULT], NOTICE_CANCEL);
        SAME(status, CLOCHE_DONE);
        SAME(guest.words[WORD_SERIAL], i);
        if (guest.words[WORD_TOLD]) told[i % HITS] = 1, all++;
        check_rest();
    }
    STORE(over, 1);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < HITS; i++) CHECK(told[i] <= tried[i] && accepted[i] == told[i]);
    CHECK(all >= (uint64_t)calls / 64);
    gone();
}
/* The timer has work in every call: polls, and notices that come and are given again. */
static void poll_storm(int calls) {
    one(CLOCHE_GUARD, 20 * 1000, LONG);
    guest.words[WORD_POLL_NS] = 3000;
    for (int i = 0; i < calls; i++) {
        guest.words[WORD_DEADLINE_NS] = (uint64_t)(i % 40 + 1) * 1000;
        int status = run(guest, i % 2 ? "n40" : "n300");
        SAME(status, CLOCHE_DONE);
        check_rest();
    }
    gone();
}
CASE(thousands_of_deadlines_that_pass_as_the_call_ends) { poll_storm(STORM); }

/* The hardest moment: a cancel has found the call under way, and arms a stop just when the guest has disarmed, but has not yet
   looked whether another thread has changed anything of it. The thread that ends the call is stepped through, instruction by instruction,
   to there. */
static int armed, released, done;
static void pause_the_cancel(void) {
    hooks.broadcast = NULL;
    STORE(armed, 1);
    while (!LOAD(released)) sched_yield();
}
static void *cancel_slowly(void *nothing) {
    early.status = cloche_cancel(guest.handle, 0, CLOCHE_CANCELLED, 0);
    STORE(done, 1);
    return nothing;
}
#if defined(__x86_64__) && !defined(SLOW) /* ThreadSanitizer puts signals off */
#define STEPS 1
enum { TRAP_FLAG = 0x100 };
static void on_step(int number, siginfo_t *info, void *machine) {
    (void)number, (void)info;
    if (LOAD(((struct guest *)guest.words)->again_at)) return; /* the last one that is set to 0 */
    STORE(released, 1);
    while (!LOAD(done)) sched_yield();
    ((ucontext_t *)machine)->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
}
static void step_from_here(void) { __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq" ::: "memory", "cc"); }
#else
#define STEPS 0
static void step_from_here(void) { STORE(released, 1); }
#endif
static pthread_t slow_thread;
static void cancel_and_step(void) {
    hooks.memory_size = NULL;
    hooks.broadcast = pause_the_cancel;
    SAME(pthread_create(&slow_thread, NULL, cancel_slowly, NULL), 0);
    while (!LOAD(armed)) sched_yield();
    step_from_here();
}
CASE(what_a_cancel_arms_ends_with_its_call) {
#if STEPS
    struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
    sigaction(SIGTRAP, &action, NULL);
#endif
    one(CLOCHE_GUARD, 0, LONG);
    hooks.memory_size = cancel_and_step;
    SAME(run(guest, "i1"), CLOCHE_DONE);
    pthread_join(slow_thread, NULL);
    SAME(early.status, CLOCHE_DONE);
    SAME(guest.words[WORD_TOLD], CLOCHE_CANCELLED);
    check_rest();
    gone();
}
CASE(thousands_of_cancels_with_grace) { storm(CLOCHE_GUARD, LONG, STORM); }
CASE(thousands_of_cancels_with_grace_under_epochs) { storm(CLOCHE_EPOCH, LONG, STORM / 2); }
/* The grace passes between two calls: what a cancel has armed must not stop the next call. */
CASE(a_grace_that_passes_between_calls_stops_nothing) {
    pthread_t thread;
    over = 0;
    one(CLOCHE_GUARD, 0, 20 * 1000);
    SAME(pthread_create(&thread, NULL, hammer, (void *)9), 0);
    for (int i = 1; i <= 5000; i++) {
        int status = run(guest, "n5");
        if (status == CLOCHE_TRAPPED) { /* by a cancel of this very call */
            SAME(guest.words[WORD_STOPPED], CLOCHE_CANCELLED);
            SAME(guest.words[WORD_TOLD], CLOCHE_CANCELLED);
            STORE(over, 1);
            pthread_join(thread, NULL);
            gone();
            over = 0;
            one(CLOCHE_GUARD, 0, 20 * 1000);
            SAME(pthread_create(&thread, NULL, hammer, (void *)(uintptr_t)(9 + i)), 0);
            continue;
        }
        SAME(status, CLOCHE_DONE);
        SAME(guest.words[WORD_STATE], CLOCHE_AT_REST);
        check_rest();
    }
    STORE(over, 1);
    pthread_join(thread, NULL);
    gone();
}

static void *killer(void *nothing) {
    uint64_t state = 5;
    while (!LOAD(over)) {
        cloche_cancel(LOAD(guest.handle), 0, CLOCHE_CANCELLED, (int)(random_of(&state) % 2));
        for (uint64_t spin = random_of(&state) % 8; spin; spin--) sched_yield();
    }
    return nothing;
}
static void *reader(void *nothing) {
    char room[4096];
    while (!LOAD(over)) {
        /* bytes that nobody writes: what is read while the guest runs may be torn, and ThreadSanitizer says so */
        int status = cloche_read(LOAD(guest.handle), (FAKE_PAGES - 1) * PAGE, room, sizeof room);
        CHECK(status == CLOCHE_DONE || status == CLOCHE_NO_GUEST);
        status = cloche_read(LOAD(guest.handle), 64, room, 8);
        CHECK(status != CLOCHE_DONE || room[0] == 0);
    }
    return nothing;
}
static void *freer(void *nothing) {
    while (!LOAD(over)) {
        cloche_free(LOAD(guest.handle));
        sched_yield();
    }
    return nothing;
}
static struct cloche_account shared;
/* Guests are made and freed while other threads cancel, read and free them; some pay from an account that is nearly used up. */
CASE(guests_are_freed_at_any_moment) {
    static const int all[] = {CLOCHE_GUARD, CLOCHE_EPOCH, CLOCHE_FUEL};
    for (int i = 0; i < 3; i++) {
        pthread_t threads[3];
        image = fake_image(all[i]);
        over = 0;
        memset(&guest, 0, sizeof guest);
        SAME(pthread_create(&threads[0], NULL, killer, NULL), 0);
        SAME(pthread_create(&threads[1], NULL, reader, NULL), 0);
        SAME(pthread_create(&threads[2], NULL, freer, NULL), 0);
        static const char *const scripts[] = {"n50", "l", "s1000000000", "h", "pn9", "an9", "u", "aaa"};
        for (int k = 0; k < COMERS; k++) {
            struct made mine = {0, NULL};
            uint64_t words;
            SAME(cloche_new(&image, FAKE_MOST_PAGES * PAGE, &mine.handle, &words), CLOCHE_DONE);
            mine.words = (uint64_t *)(uintptr_t)words;
            mine.words[WORD_REQUEST_AT] = FAKE_REQUEST;
            mine.words[WORD_GRANTED] = 1;
            mine.words[WORD_DEADLINE_NS] = MS;
            mine.words[WORD_GRACE_NS] = MS / 8;
            mine.words[WORD_FUEL] = INT64_MAX;
            mine.words[WORD_ACCOUNT] = k % 2 ? (uint64_t)(uintptr_t)&shared : 0;
            STORE(shared.limit, LOAD(shared.used) + k % 4 * MS / 4);
            STORE(guest.handle, mine.handle);
            for (int call = 0; call < 4; call++) {
                int status = run(mine, scripts[(k + call) % 8]);
                while (status == CLOCHE_ASKS || status == CLOCHE_POLLS)
                    status = k % 3 == 0              ? cloche_abandon(mine.handle)
                             : status == CLOCHE_ASKS ? cloche_answer(mine.handle, (const uint8_t *)"abc", 3, 0)
                                                     : cloche_go_on(mine.handle);
                CHECK(status == CLOCHE_DONE || status == CLOCHE_TRAPPED || status == CLOCHE_NO_GUEST || status == CLOCHE_BUSY);
            }
            cloche_free(mine.handle);
        }
        STORE(over, 1);
        for (int k = 0; k < 3; k++) pthread_join(threads[k], NULL);
        SAME(cloche_count_guests(), 0);
        free(image.engine);
    }
}

/* Many guests on threads with tiny stacks, with deadlines that pass. */
static void *many(void *it) {
    struct cloche_image *mine = it;
    for (int i = 0; i < 30; i++) {
        struct made made = make(mine);
        made.words[WORD_GRANTED] = 1;
        made.words[WORD_DEADLINE_NS] = (uint64_t)(i % 5 + 1) * MS;
        made.words[WORD_GRACE_NS] = i % 2 ? MS : 0;
        int status = run(made, i % 4 == 0 ? "l" : i % 4 == 1 ? "ai2" : i % 4 == 2 ? "hi1" : "R");
        if (status == CLOCHE_ASKS) status = cloche_answer(made.handle, (const uint8_t *)"q", 1, 0);
        CHECK(status == CLOCHE_DONE || status == CLOCHE_TRAPPED);
        SAME(cloche_free(made.handle), CLOCHE_DONE);
    }
    return NULL;
}
CASE(many_threads_with_tiny_stacks) {
    enum { THREADS = 24 };
    pthread_t threads[THREADS];
    pthread_attr_t attributes;
    image = fake_image(CLOCHE_GUARD);
    pthread_attr_init(&attributes);
    size_t tiny = (size_t)PTHREAD_STACK_MIN + TINY_EXTRA;
    SAME(pthread_attr_setstacksize(&attributes, tiny), 0);
    for (int i = 0; i < THREADS; i++) SAME(pthread_create(&threads[i], &attributes, many, &image), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    SAME(cloche_count_guests(), 0);
    CHECK(cloche_count_stacks() <= 16);
    free(image.engine);
}

/* ---- accounts */
static struct cloche_account account;
static struct made payer(uint64_t grace) {
    struct made made = make(&image);
    made.words[WORD_ACCOUNT] = (uint64_t)(uintptr_t)&account;
    made.words[WORD_GRACE_NS] = grace;
    return made;
}

CASE(an_account_ends_the_call_that_uses_it_up) {
    static const int all[] = {CLOCHE_GUARD, CLOCHE_EPOCH};
    for (int i = 0; i < 2; i++) {
        image = fake_image(all[i]);
        account = (struct cloche_account){.limit = 20 * MS};
        struct made hard = payer(0), soft = payer(10 * (uint64_t)SECOND), other = make(&image);
        SAME(run(hard, "i1"), CLOCHE_DONE);
        CHECK(account.used > 0 && account.used < 20 * MS);
        SAME(run(soft, "h"), CLOCHE_DONE); /* it hears the notice, and ends by itself */
        SAME(soft.words[WORD_TOLD], CLOCHE_BUDGET);
        CHECK(account.used >= 20 * MS);
        CHECK((int64_t)soft.words[WORD_SPENT_NS] <= account.used && soft.words[WORD_SPENT_NS] >= 15 * MS);
        SAME(run(hard, "l"), CLOCHE_TRAPPED);
        SAME(hard.words[WORD_STOPPED], CLOCHE_BUDGET);
        SAME(run(other, "n50"), CLOCHE_DONE); /* it pays nothing */
        SAME(other.words[WORD_SPENT_NS], 0);
        SAME(cloche_free(hard.handle), CLOCHE_DONE);
        SAME(cloche_free(soft.handle), CLOCHE_DONE);
        SAME(cloche_free(other.handle), CLOCHE_DONE);
        free(image.engine);
    }
}

CASE(sleeping_costs_an_account_nothing) {
    image = fake_image(CLOCHE_GUARD);
    account = (struct cloche_account){.limit = 20 * MS};
    struct made made = payer(0);
    SAME(run(made, "s60000000"), CLOCHE_DONE);
    CHECK(account.used < 20 * MS);
    SAME(cloche_free(made.handle), CLOCHE_DONE);
    free(image.engine);
}

CASE(a_guest_that_is_called_inside_of_another_one_pays_alone) {
    image = fake_image(CLOCHE_GUARD);
    struct cloche_account others = {.limit = INT64_MAX / 2};
    account = (struct cloche_account){.limit = INT64_MAX / 2};
    struct made outer = payer(0), inner = make(&image);
    outer.words[WORD_GRANTED] = 1;
    inner.words[WORD_ACCOUNT] = (uint64_t)(uintptr_t)&others;
    inner.words[WORD_DEADLINE_NS] = 50 * MS; /* of the clock, not of the processor; but nothing else is to be done */
    SAME(run(outer, "ai2"), CLOCHE_ASKS);
    SAME(run(inner, "l"), CLOCHE_TRAPPED);
    SAME(cloche_answer(outer.handle, NULL, 0, 0), CLOCHE_DONE);
    CHECK(account.used >= 0 && others.used > 0 && account.used < others.used);
    SAME(cloche_free(outer.handle), CLOCHE_DONE);
    SAME(cloche_free(inner.handle), CLOCHE_DONE);
    free(image.engine);
}

enum { PAYERS = 4 };
static void *pay(void *argument) {
    struct made *made = argument;
    SAME(run(*made, "h"), CLOCHE_DONE);
    SAME(made->words[WORD_TOLD], CLOCHE_BUDGET);
    return NULL;
}
/* All that compute on an account end together, and what they have used is added up once. */
CASE(guests_on_many_threads_use_an_account_together) {
    pthread_t threads[PAYERS];
    struct made made[PAYERS];
    image = fake_image(CLOCHE_GUARD);
    account = (struct cloche_account){.limit = 80 * MS};
    for (int i = 0; i < PAYERS; i++) made[i] = payer(10 * (uint64_t)SECOND);
    for (int i = 0; i < PAYERS; i++) SAME(pthread_create(&threads[i], NULL, pay, &made[i]), 0);
    for (int i = 0; i < PAYERS; i++) pthread_join(threads[i], NULL);
    int64_t sum = 0;
    for (int i = 0; i < PAYERS; i++) {
        sum += (int64_t)made[i].words[WORD_SPENT_NS];
        SAME(cloche_free(made[i].handle), CLOCHE_DONE);
    }
    SAME(account.used, sum);
    CHECK(account.used >= 80 * MS);
    free(image.engine);
}
