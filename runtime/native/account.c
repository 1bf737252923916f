/* Processor time that several guests have together (cloche.h, struct cloche_account).

   A guest's time is its thread's processor time since its call began. So what its host does for it on that thread counts, and
   sleeping does not. The timer adds up what calls under way have used; a call that ends adds its own time to `used`, here in C: no
   exception in Python comes between the two. */
#define _GNU_SOURCE
#include "core.h"
#include <time.h>
#ifdef __APPLE__
#include <mach/mach.h>
#endif

static int64_t spent_here(void) {
    struct timespec t;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t)) return 0;
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The processor time of the thread on which the guest's call runs; 0 if it cannot be had. */
static int64_t spent_by(const struct guest *guest) {
#ifdef __APPLE__
    thread_basic_info_data_t info;
    mach_msg_type_number_t count = THREAD_BASIC_INFO_COUNT;
    if (thread_info(pthread_mach_thread_np(guest->thread), THREAD_BASIC_INFO, (thread_info_t)&info, &count)) return 0;
    return ((int64_t)info.user_time.seconds + info.system_time.seconds) * 1000000000 +
           ((int64_t)info.user_time.microseconds + info.system_time.microseconds) * 1000;
#else
    struct timespec t;
    if (clock_gettime((clockid_t)LOAD(guest->cpu_clock), &t)) return 0;
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
#endif
}

/* Note the clock of this thread, which the timer reads. */
static void note_clock(struct guest *guest) {
#ifdef __APPLE__
    (void)guest;
#else
    clockid_t clock;
    if (pthread_getcpuclockid(pthread_self(), &clock)) clock = CLOCK_THREAD_CPUTIME_ID;
    STORE(guest->cpu_clock, (int)clock);
#endif
}

/* When to look first: if as many calls compute as at the last look, and this one. */
static int64_t first_look(struct cloche_account *account, int64_t now) {
    int64_t left = LOAD(account->limit) - LOAD(account->elsewhere) - LOAD(account->used), running = LOAD(account->running);
    return later(now, left > 0 ? left / (running + 1) : 0);
}

void account_begin(struct guest *guest) {
    struct cloche_account *account = (struct cloche_account *)(uintptr_t)guest->words[WORD_ACCOUNT];
    guest->words[WORD_SPENT_NS] = 0;
    if (!account) return;
    note_clock(guest);
    STORE(guest->cpu_began, spent_here());
    /* what cannot hear would have to be stopped, which breaks it; and those are short, and nothing of the node's */
    guest->cpu_kept = 0;
    if (guest->hears) STORE(guest->cpu_at, first_look(account, guest->began));
    STORE(guest->account, account);
}

void account_pause(struct guest *guest) {
    if (!LOAD(guest->account)) return;
    int64_t look_at = LOAD(guest->cpu_at);
    if (look_at) guest->cpu_kept = look_at;
    STORE(guest->cpu_paused, spent_here() - LOAD(guest->cpu_began));
    STORE(guest->cpu_at, 0);
}

void account_resume(struct guest *guest) {
    if (!LOAD(guest->account)) return;
    if (spent_here() < LOAD(guest->cpu_began)) STORE(guest->cpu_began, spent_here()); /* a fork: this is another thread */
    note_clock(guest);
    STORE(guest->cpu_at, guest->cpu_kept);
    guest->cpu_kept = 0;
}

void account_settle(struct guest *guest, struct guest *waiting) {
    struct cloche_account *account = LOAD(guest->account);
    if (!account) return;
    int64_t spent = spent_here() - guest->cpu_began;
    if (spent < 0) spent = 0;
    STORE(guest->account, NULL);
    __atomic_add_fetch(&account->used, spent, __ATOMIC_SEQ_CST);
    guest->words[WORD_SPENT_NS] = (uint64_t)spent;
    for (struct guest *outer = waiting; outer; outer = outer->below)
        if (outer != guest) __atomic_add_fetch(&outer->cpu_began, spent, __ATOMIC_SEQ_CST);
}

int64_t account_left(struct cloche_account *account, struct guest *guests, int64_t now) {
    if (account->looked_at != now) { /* once for all guests that the timer looks at now */
        account->looked_at = now;
        int64_t running = 0, under_way = 0;
        for (struct guest *guest = guests; guest; guest = guest->next) {
            if (LOAD(guest->account) != account) continue;
            /* one that waits may have called others, which pay for themselves */
            int waits = LOAD(guest->words[WORD_STATE]) == CLOCHE_WAITING;
            int64_t spent = waits ? LOAD(guest->cpu_paused) : spent_by(guest) - LOAD(guest->cpu_began);
            if (LOAD(guest->cpu_at)) running++;
            if (spent > 0) under_way += spent;
        }
        STORE(account->running, running);
        account->under_way = under_way;
    }
    return LOAD(account->limit) - LOAD(account->elsewhere) - LOAD(account->used) - account->under_way;
}
