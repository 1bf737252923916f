/* Forks, signals, threads, and system calls that fail. */
#define _GNU_SOURCE
#include "fake.h"
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static struct cloche_image image;
enum { MS = 1000000 };

/* ---- forks. The child says 0 if all that it checked was true. */
static void in_child(void (*work)(void)) {
    int status;
    pid_t child = fork();
    if (!child) {
        alarm(60);
        work();
        _exit(0);
    }
    SAME(waitpid(child, &status, 0), child);
    SAME(status, 0);
}

static struct made own, idle, others[4];
static int ready, leave;

static void child_of_a_call(void) {
    for (int i = 0; i < 4; i++) {
        char byte;
        SAME(run(others[i], "i1"), CLOCHE_OTHER_PROCESS);
        SAME(cloche_enter(others[i].handle, CLOCHE_NODE_CHECK, 0, 0, 0, 0), CLOCHE_OTHER_PROCESS);
        SAME(cloche_answer(others[i].handle, NULL, 0, 0), CLOCHE_OTHER_PROCESS);
        SAME(cloche_go_on(others[i].handle), CLOCHE_OTHER_PROCESS);
        SAME(cloche_abandon(others[i].handle), CLOCHE_OTHER_PROCESS);
        SAME(cloche_cancel(others[i].handle, 0, CLOCHE_CANCELLED, 1), CLOCHE_OTHER_PROCESS);
        SAME(cloche_free(others[i].handle), CLOCHE_OTHER_PROCESS);
        SAME(cloche_read(others[i].handle, FAKE_HEAP, &byte, 1), CLOCHE_DONE);
    }
    SAME(cloche_enter(own.handle, CLOCHE_NODE_CHECK, 1, 1, 1, 1), CLOCHE_DONE); /* its own call goes on */
    SAME(cloche_answer(own.handle, (const uint8_t *)"z", 1, 0), CLOCHE_ASKS);
    SAME(cloche_answer(own.handle, NULL, 0, 5), CLOCHE_DONE);
    SAME(own.words[WORD_RESULT], 5);
    idle.words[WORD_DEADLINE_NS] = MS; /* and so do deadlines */
    SAME(run(idle, "l"), CLOCHE_TRAPPED);
    SAME(cloche_free(idle.handle), CLOCHE_DONE);
    SAME(cloche_free(own.handle), CLOCHE_DONE);
    struct made fresh = make(&image);
    SAME(run(fresh, "i4"), CLOCHE_DONE);
    SAME(cloche_free(fresh.handle), CLOCHE_DONE);
}

static void *other_call(void *it) {
    static const char *const scripts[] = {"l", "ai1", "s999999999999", "h"};
    struct made *made = it;
    int status = run(*made, scripts[made - others]);
    if (status == CLOCHE_ASKS) {
        __atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
        while (!LOAD(leave)) sched_yield();
        status = cloche_answer(made->handle, NULL, 0, 0);
    }
    CHECK(status == CLOCHE_TRAPPED || status == CLOCHE_DONE);
    return NULL;
}

CASE(a_fork_in_the_middle_of_calls) {
    image = fake_image(CLOCHE_GUARD);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        others[i] = make(&image);
        others[i].words[WORD_GRANTED] = 1;
        SAME(pthread_create(&threads[i], NULL, other_call, &others[i]), 0);
        uint64_t wanted = i == 1 ? CLOCHE_WAITING : CLOCHE_RUNNING;
        while (LOAD(others[i].words[WORD_STATE]) != wanted) sched_yield();
    }
    while (LOAD(ready) != 1) sched_yield();
    own = make(&image), idle = make(&image);
    own.words[WORD_GRANTED] = 1;
    SAME(run(own, "aa"), CLOCHE_ASKS);
    for (int i = 0; i < 3; i++) in_child(child_of_a_call);
    SAME(cloche_answer(own.handle, NULL, 0, 5), CLOCHE_ASKS);
    SAME(cloche_answer(own.handle, NULL, 0, 6), CLOCHE_DONE);
    STORE(leave, 1);
    for (int i = 0; i < 4; i++) {
        if (i != 1) SAME(cloche_cancel(others[i].handle, 0, CLOCHE_CANCELLED, 1), CLOCHE_DONE);
        pthread_join(threads[i], NULL);
        SAME(cloche_free(others[i].handle), CLOCHE_DONE);
    }
    SAME(cloche_free(own.handle), CLOCHE_DONE);
    SAME(cloche_free(idle.handle), CLOCHE_DONE);
    free(image.engine);
}

/* The deadline of a call that is under way at the fork holds in the child, where no timer thread runs yet. */
static void child_with_a_deadline(void) {
    SAME(cloche_answer(own.handle, NULL, 0, 0), CLOCHE_TRAPPED), SAME(own.words[WORD_STOPPED], CLOCHE_DEADLINE);
}
CASE(a_deadline_survives_a_fork) {
    image = fake_image(CLOCHE_GUARD);
    own = make(&image);
    own.words[WORD_GRANTED] = 1;
    own.words[WORD_DEADLINE_NS] = 100 * MS;
    SAME(run(own, "al"), CLOCHE_ASKS);
    in_child(child_with_a_deadline);
    SAME(cloche_answer(own.handle, NULL, 0, 0), CLOCHE_TRAPPED);
    SAME(cloche_free(own.handle), CLOCHE_DONE);
    free(image.engine);
}

/* A call that begins or ends at the moment of a fork, too, belongs to the other process. */
static int forks;
static void child_in_between(void) {
    SAME(run(own, "i1"), CLOCHE_OTHER_PROCESS), SAME(cloche_free(own.handle), CLOCHE_OTHER_PROCESS);
}
static void *forker(void *nothing) {
    in_child(child_in_between);
    return nothing;
}
static void fork_now(void) {
    if (--forks) return;
    hooks.memory_size = NULL;
    on_thread(forker, NULL, 0);
}
CASE(a_fork_as_a_call_begins_or_ends) {
    image = fake_image(CLOCHE_GUARD);
    own = make(&image);
    for (int moment = 1; moment < 3; moment++) {
        forks = moment;
        hooks.memory_size = fork_now;
        SAME(run(own, "i1"), CLOCHE_DONE);
        SAME(forks, 0);
    }
    SAME(cloche_free(own.handle), CLOCHE_DONE);
    free(image.engine);
}

static int word_pipe[2];
static void child_draws(void) {
    SAME(run(own, "r"), CLOCHE_DONE);
    SAME(write(word_pipe[1], &own.words[WORD_RESULT], 8), 8);
}
CASE(a_child_draws_other_random_words) {
    image = fake_image(CLOCHE_GUARD);
    own = make(&image);
    SAME(run(own, "r"), CLOCHE_DONE); /* seven words of this block are left */
    SAME(pipe(word_pipe), 0);
    in_child(child_draws);
    uint64_t childs;
    SAME(read(word_pipe[0], &childs, 8), 8);
    SAME(run(own, "r"), CLOCHE_DONE);
    CHECK(own.words[WORD_RESULT] != childs);
    SAME(cloche_free(own.handle), CLOCHE_DONE);
    free(image.engine);
}

static int over;
static void *comes_and_goes(void *nothing) {
    while (!LOAD(over)) {
        struct made made = make(&image);
        made.words[WORD_DEADLINE_NS] = MS;
        made.words[WORD_GRANTED] = 1;
        if (run(made, "an100") == CLOCHE_ASKS) cloche_answer(made.handle, NULL, 0, 0);
        SAME(cloche_free(made.handle), CLOCHE_DONE);
    }
    return nothing;
}
static void child_calls(void) {
    for (int i = 0; i < 3; i++) {
        struct made made = make(&image);
        made.words[WORD_DEADLINE_NS] = MS;
        SAME(run(made, "l"), CLOCHE_TRAPPED);
        SAME(cloche_free(made.handle), CLOCHE_DONE);
    }
}
/* In a child, no lock of the core may stay locked. */
CASE(forks_at_random_moments) {
    pthread_t threads[3];
    image = fake_image(CLOCHE_GUARD);
    for (int i = 0; i < 3; i++) SAME(pthread_create(&threads[i], NULL, comes_and_goes, NULL), 0);
    for (int i = 0; i < 30; i++) in_child(child_calls);
    STORE(over, 1);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    SAME(cloche_count_guests(), 0);
    free(image.engine);
}

/* ---- signals */
static void *blocks_all(void *nothing) {
    sigset_t all, now;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    struct made made = make(&image);
    made.words[WORD_GRANTED] = 1;
    for (int i = 0; i < 2; i++) {
        SAME(run(made, "aa"), CLOCHE_ASKS);
        pthread_sigmask(SIG_SETMASK, NULL, &now);
        SAME(sigismember(&now, SIGSEGV), 1); /* while Python answers, its own mask holds */
        SAME(cloche_answer(made.handle, NULL, 0, 0), CLOCHE_ASKS);
        SAME(cloche_answer(made.handle, NULL, 0, 0), CLOCHE_DONE);
    }
    SAME(run(made, "o"), CLOCHE_TRAPPED);
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    for (int number = 1; number < 32; number++)
        if (number != SIGKILL && number != SIGSTOP) SAME(sigismember(&now, number), 1);
    SAME(cloche_free(made.handle), CLOCHE_DONE);
    return nothing;
}
CASE(a_thread_that_blocks_every_signal_can_trap) {
    image = fake_image(CLOCHE_GUARD);
    on_thread(blocks_all, NULL, (size_t)PTHREAD_STACK_MIN + TINY_EXTRA);
    free(image.engine);
}

static int has_handler(int number) {
    struct sigaction now;
    sigaction(number, NULL, &now);
    return now.sa_handler != SIG_DFL && now.sa_handler != SIG_IGN;
}
CASE(handlers_that_were_replaced_are_put_back) {
    image = fake_image(CLOCHE_GUARD);
    CHECK(cloche_note_handlers() & 1);
    SAME(cloche_keep_handlers(), 0);
    signal(SIGSEGV, SIG_DFL);
    SAME(cloche_keep_handlers(), 1);
    SAME(cloche_keep_handlers(), 0);
    signal(SIGSEGV, SIG_IGN);
    CHECK(cloche_note_handlers() & 1); /* the ones noted first count: this one is nobody's */
    SAME(cloche_keep_handlers(), 1);
    struct made made = make(&image);
    made.words[WORD_DEADLINE_NS] = 30 * MS;
    made.words[WORD_GRANTED] = 1;
    SAME(run(made, "al"), CLOCHE_ASKS);
    signal(SIGSEGV, SIG_DFL); /* while the guest waits: the timer puts it back before it lets the guest fault */
    SAME(cloche_answer(made.handle, NULL, 0, 0), CLOCHE_TRAPPED);
    SAME(has_handler(SIGSEGV), 1);
    SAME(cloche_free(made.handle), CLOCHE_DONE);
    free(image.engine);
}

/* ---- system calls that fail */
CASE(no_address_space_is_an_error) {
    image = fake_image(CLOCHE_GUARD);
    uint64_t handle, words;
    for (int protects = 0; protects < 2; protects++) {
        *(protects ? &fail_mprotect : &fail_mmap) = 2; /* the second time when it is freed: that never fails */
        SAME(cloche_new(&image, 1 << 20, &handle, &words), CLOCHE_NO_MEMORY);
        SAME(cloche_free(handle), CLOCHE_DONE);
        SAME(cloche_count_stacks(), 0);
    }
    struct made first = make(&image), second = make(&image);
    first.words[WORD_GRANTED] = 1;
    SAME(run(first, "ai2"), CLOCHE_ASKS); /* it has the one stack that exists */
    fail_mmap = 1;
    SAME(run(second, "i1"), CLOCHE_NO_MEMORY);
    SAME(second.words[WORD_STATE], CLOCHE_AT_REST);
    fail_mmap = 1;
    SAME(cloche_free(second.handle), CLOCHE_DONE);
    SAME(fail_mmap, 0);
    SAME(cloche_answer(first.handle, NULL, 0, 0), CLOCHE_DONE);
    SAME(cloche_free(first.handle), CLOCHE_DONE);
    free(image.engine);
}

/* Without the timer's thread nobody would stop the guest: the call is refused, and the next one tries again. */
CASE(a_call_whose_deadline_nobody_keeps_is_refused) {
    image = fake_image(CLOCHE_GUARD);
    struct made made = make(&image);
    SAME(run(made, "i1"), CLOCHE_DONE);
    made.words[WORD_DEADLINE_NS] = MS;
    fail_thread = 1000;
    SAME(run(made, "l"), CLOCHE_NO_THREAD);
    SAME(made.words[WORD_STATE], CLOCHE_AT_REST);
    SAME(cloche_enter(made.handle, CLOCHE_NODE_CHECK, 0, 0, 0, 0), CLOCHE_NO_THREAD);
    fail_thread = 1; /* as when the thread's stack is too small */
    SAME(run(made, "l"), CLOCHE_TRAPPED);
    SAME(cloche_free(made.handle), CLOCHE_DONE);
    free(image.engine);
}

static int cancel_status;
static struct made target;
static void *cancel_it(void *nothing) {
    while (LOAD(target.words[WORD_STATE]) != CLOCHE_RUNNING) sched_yield();
    cancel_status = cloche_cancel(target.handle, 0, CLOCHE_CANCELLED, 0);
    return nothing;
}
CASE(a_cancel_holds_without_the_timers_thread) {
    image = fake_image(CLOCHE_GUARD);
    target = make(&image);
    target.words[WORD_GRACE_NS] = MS;
    pthread_t thread;
    SAME(pthread_create(&thread, NULL, cancel_it, NULL), 0);
    STORE(fail_thread, 1000);
    SAME(run(target, "l"), CLOCHE_TRAPPED);
    STORE(fail_thread, 0);
    pthread_join(thread, NULL);
    SAME(cancel_status, CLOCHE_DONE);
    SAME(target.words[WORD_STOPPED], CLOCHE_CANCELLED);
    SAME(cloche_free(target.handle), CLOCHE_DONE);
    free(image.engine);
}

static void *cancel_when_it_fails(void *nothing) {
    while (LOAD(target.words[WORD_STATE]) != CLOCHE_RUNNING) sched_yield();
    STORE(fail_mprotect, 3);
    cancel_status = cloche_cancel(target.handle, 0, CLOCHE_CANCELLED, 1);
    return nothing;
}
CASE(a_stop_page_that_cannot_be_locked_is_tried_again) {
    static const int all[] = {CLOCHE_GUARD, CLOCHE_UNMETERED};
    for (int i = 0; i < 2; i++) {
        image = fake_image(all[i]);
        target = make(&image);
        pthread_t thread;
        SAME(pthread_create(&thread, NULL, cancel_when_it_fails, NULL), 0);
        SAME(run(target, "l"), CLOCHE_TRAPPED);
        pthread_join(thread, NULL);
        SAME(cancel_status, CLOCHE_DONE);
        SAME(LOAD(fail_mprotect), 0);
        SAME(cloche_free(target.handle), CLOCHE_DONE);
        free(image.engine);
    }
}

/* A stop that comes as the guest returns: it stays usable, unless its stop page stays locked. */
static int unlock_fails;
static void stop_now(void) {
    hooks.memory_size = NULL;
    SAME(cloche_cancel(target.handle, 0, CLOCHE_CANCELLED, 1), CLOCHE_DONE);
    fail_mprotect = unlock_fails;
}
CASE(a_guest_that_returns_in_spite_of_a_stop) {
    image = fake_image(CLOCHE_GUARD);
    target = make(&image);
    for (unlock_fails = 0; unlock_fails < 2; unlock_fails++) {
        hooks.memory_size = stop_now;
        SAME(run(target, "i5"), unlock_fails ? CLOCHE_TRAPPED : CLOCHE_DONE); /* a script without a loop */
        SAME(fail_mprotect, 0);
        SAME(run(target, "n3"), unlock_fails ? CLOCHE_BUSY : CLOCHE_DONE);
    }
    SAME(cloche_free(target.handle), CLOCHE_DONE);
    free(image.engine);
}

/* A guest whose stop page stays locked must not be used again. */
CASE(a_stop_page_that_cannot_be_unlocked_breaks_the_guest) {
    image = fake_image(CLOCHE_GUARD);
    struct made made = make(&image);
    made.words[WORD_GRANTED] = 1;
    SAME(run(made, "a"), CLOCHE_ASKS);
    SAME(cloche_cancel(made.handle, 0, CLOCHE_CANCELLED, 1), CLOCHE_DONE);
    fail_mprotect = 1;
    SAME(cloche_abandon(made.handle), CLOCHE_TRAPPED);
    SAME(fail_mprotect, 0);
    SAME(run(made, "i1"), CLOCHE_BUSY);
    char byte;
    SAME(cloche_read(made.handle, 8, &byte, 1), CLOCHE_REFUSED);
    SAME(cloche_free(made.handle), CLOCHE_DONE);
    free(image.engine);
}
