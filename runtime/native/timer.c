/* One thread sees to the deadlines of all guests of a process. It needs neither Python nor the GIL, so a deadline is late by no
   more than the time that a thread takes to wake.

   A call arms its guest: it stores the times, and wakes the thread only if that would otherwise wake too late. The call writes
   the times and then reads `wake_at`; the thread writes `wake_at` and then reads the times. So at least one of them sees what
   the other wrote.

   What the thread does to a guest whose time has come, in this order:
   - at `tell_at` it writes a notice, which the guest's Python raises as an exception at its next check; the node can clean up;
   - at `stop_at` it stops the guest: it makes the stop page inaccessible, which every loop of the image reads (or, under epochs,
     lets an epoch pass). The next such load traps, and wasmtime ends the call.

   A guest disarms without the lock, unless another thread has changed what is armed since the guest was armed: then `handled` is
   set, and the guest takes the lock. So nothing that another thread arms at that moment outlives the call. */
#define _GNU_SOURCE
#include "core.h"
#include "handlers.h"
#include <errno.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

enum { MS = 1000 * 1000, AGAIN_NS = MS, LOOK_AT_HANDLERS_NS = 10 * MS };
#define NEVER INT64_MAX

pthread_mutex_t timer_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;
static int condition_made, running;
static struct guest *guests;
static int64_t wake_at = NEVER;  /* when the thread looks next */
static int64_t shortest = NEVER; /* the shortest time that was armed since the last look */
static int armed_since;          /* whether any was */

int64_t clock_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void timer_condition(pthread_cond_t *condition) {
#ifdef __APPLE__
    pthread_cond_init(condition, NULL);
#else
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
#endif
}

void timer_wait(pthread_cond_t *condition, int64_t until) {
    if (until == NEVER) {
        pthread_cond_wait(condition, &timer_lock);
        return;
    }
#ifdef __APPLE__
    int64_t left = until - clock_now();
    if (left <= 0) return;
    struct timespec t = {left / 1000000000, left % 1000000000};
    pthread_cond_timedwait_relative_np(condition, &timer_lock, &t);
#else
    struct timespec t = {until / 1000000000, until % 1000000000};
    pthread_cond_timedwait(condition, &timer_lock, &t);
#endif
}

/* Whether the timer ends this call at its times: without metering only after a cancel. */
static int is_kept(const struct guest *guest) { return guest->image->metering != CLOCHE_UNMETERED || LOAD(guest->cancelled); }

static int64_t earliest(const struct guest *guest) {
    int64_t first = NEVER;
    const int64_t times[] = {LOAD(guest->poll_at), LOAD(guest->again_at), LOAD(guest->tell_at), LOAD(guest->stop_at),
                             LOAD(guest->cpu_at)};
    /* without metering the guest itself sees to its deadline, and only while it sleeps (timer_sleep) */
    int count = is_kept(guest) ? 5 : 2;
    for (int i = 0; i < count; i++)
        if (times[i] && times[i] < first) first = times[i];
    return first;
}

static void write_notice(struct guest *guest, uint32_t notice) {
    struct cloche_image *image = guest->image;
    uint32_t *request = (uint32_t *)(guest->base + guest->words[WORD_NOTICE]);
    guest->noticed = 1;
    if (notice != NOTICE_POLL || !__atomic_load_n(request, __ATOMIC_RELAXED)) __atomic_store_n(request, notice, __ATOMIC_SEQ_CST);
    __atomic_fetch_or((uint32_t *)(guest->base + image->notice_bit_at), (uint32_t)image->notice_bit, __ATOMIC_SEQ_CST);
}

void timer_clear_notice(struct guest *guest) {
    struct cloche_image *image = guest->image;
    *(uint32_t *)(guest->base + guest->words[WORD_NOTICE]) = NOTICE_NONE;
    *(uint32_t *)(guest->base + image->notice_bit_at) &= ~(uint32_t)image->notice_bit;
}

static int notice_is_pending(const struct guest *guest) {
    uint32_t request = __atomic_load_n((uint32_t *)(guest->base + guest->words[WORD_NOTICE]), __ATOMIC_RELAXED);
    return request == NOTICE_DEADLINE || request == NOTICE_CANCEL;
}

static uint32_t notice_for(uint64_t reason) { return reason == CLOCHE_CANCELLED ? NOTICE_CANCEL : NOTICE_DEADLINE; }

/* Tell the guest to stop, unless it has been told already: the first reason counts. */
static void tell(struct guest *guest, uint64_t reason, int64_t now) {
    STORE(guest->tell_at, 0);
    if (LOAD(guest->words[WORD_TOLD])) return;
    STORE(guest->words[WORD_TOLD], reason);
    write_notice(guest, notice_for(reason));
    STORE(guest->again_at, later(now, AGAIN_NS));
    pthread_cond_broadcast(&guest->wake);
}

/* Each item of a batch has the deadline for itself: if that has passed, and the guest has begun further items since it was armed,
   arm it anew. The guest could lie about that, so this happens no more often than the batch has items. Under the lock. */
static int is_armed_anew(struct guest *guest, int64_t now) {
    int64_t first = LOAD(guest->tell_at) ? LOAD(guest->tell_at) : LOAD(guest->stop_at);
    if (!first || first > now) return 0;
    uint64_t items = guest->words[WORD_ITEMS];
    if (!items || LOAD(guest->words[WORD_TOLD])) return 0;
    uint64_t begun = __atomic_load_n((uint32_t *)(guest->base + guest->words[WORD_NOTICE]) + NOTICE_BEGUN, __ATOMIC_RELAXED);
    if (begun > items) begun = items;
    if (begun <= guest->items_begun) return 0;
    guest->items_begun = begun;
    int64_t tell_at = LOAD(guest->tell_at), until = later(now, span_of(guest->words[WORD_DEADLINE_NS]));
    int64_t stop_at = later(until, span_of(guest->words[WORD_GRACE_NS]));
    if (tell_at) STORE(guest->tell_at, until), STORE(guest->words[WORD_TELL_AT], (uint64_t)until);
    STORE(guest->stop_at, stop_at), STORE(guest->words[WORD_STOP_AT], (uint64_t)stop_at);
    return 1;
}

static uint64_t reason_to_stop(const struct guest *guest) {
    uint64_t told = LOAD(guest->words[WORD_TOLD]);
    return told ? told : CLOCHE_DEADLINE;
}

/* Make the code of a guest that has been stopped trap. */
static void press(struct guest *guest, int64_t now) {
    STORE(guest->again_at, 0);
    if (guest->image->metering == CLOCHE_EPOCH) {
        engine.increment_epoch(guest->image->engine);
        STORE(guest->again_at,
              later(now, AGAIN_NS)); /* once more: an epoch is lost if the engine's callback read `stop` just before it was set */
        return;
    }
    if (guest->locked) return;
    cloche_keep_handlers();
    guest->locked = !mprotect(guest->base + STOP_PAGE, (size_t)sysconf(_SC_PAGESIZE), PROT_NONE);
    if (!guest->locked) STORE(guest->again_at, later(now, AGAIN_NS)); /* the kernel has no memory for its tables: try again */
}

static void stop(struct guest *guest, int64_t now) {
    set_stop(guest, reason_to_stop(guest));
    STORE(guest->stop_at, 0);
    pthread_cond_broadcast(&guest->wake);
    press(guest, now);
}

/* Tell a guest to stop for that reason, and stop it after the grace; at once, if it has none, or cannot hear. A guest that is in its
   allocator, for a value of a call to come, is not told: to stop it there would break it for nothing. It is stopped after the grace.
   Returns whether it was told or stopped. */
static int end_soon(struct guest *guest, uint64_t reason, int at_once, int64_t now) {
    int64_t grace = span_of(guest->words[WORD_GRACE_NS]), stop_at = LOAD(guest->stop_at);
    int in_call = guest->hears || at_once;
    if (in_call && !at_once && grace && guest->image->notice_bit_at) {
        tell(guest, reason, now);
    } else {
        if (!LOAD(guest->words[WORD_TOLD])) STORE(guest->words[WORD_TOLD], reason);
        if (in_call || !grace) {
            stop(guest, now);
            return 1;
        }
    }
    if (!stop_at || later(now, grace) < stop_at) STORE(guest->stop_at, later(now, grace));
    return in_call;
}

/* Under the lock: look whether the guest's account has time left. If not, all that compute on it end. */
static void look_at_account(struct guest *guest, int64_t now) {
    struct cloche_account *account = LOAD(guest->account);
    if (!account) return;
    int64_t left = account_left(account, guests, now);
    if (left > 0) {
        int64_t share = left / (account->running > 1 ? account->running : 1); /* so many may compute at the same time */
        STORE(guest->cpu_at, later(now, share > AGAIN_NS ? share : AGAIN_NS));
        return;
    }
    for (struct guest *other = guests; other; other = other->next) {
        if (LOAD(other->account) != account) continue;
        STORE(other->handled, 1); /* as in look_at */
        if (!LOAD(other->cpu_at) || LOAD(other->account) != account) continue;
        STORE(other->cpu_at, 0);
        end_soon(other, CLOCHE_BUDGET, 0, now);
    }
}

/* Under the lock: do what is due for one guest. `handled` is written before the times are read: a guest that disarms meanwhile
   sees it and waits for the lock, and one that has disarmed before has no times any more. */
static void look_at(struct guest *guest, int64_t now) {
    if (earliest(guest) > now) return;
    STORE(guest->handled, 1);
    int kept = is_kept(guest) && !is_armed_anew(guest, now);
    int64_t tell_at = LOAD(guest->tell_at), stop_at = LOAD(guest->stop_at), poll_at = LOAD(guest->poll_at),
            cpu_at = LOAD(guest->cpu_at);
    if (kept && tell_at && tell_at <= now) tell(guest, CLOCHE_DEADLINE, now);
    if (kept && stop_at && stop_at <= now) stop(guest, now);
    if (kept && cpu_at && cpu_at <= now) look_at_account(guest, now);
    if (poll_at && poll_at <= now) {
        int64_t span = span_of(guest->words[WORD_POLL_NS]);
        write_notice(guest, NOTICE_POLL);
        STORE(guest->poll_at, later(now, span ? span : AGAIN_NS));
    }
    int64_t again_at = LOAD(guest->again_at);
    if (again_at && again_at <= now) {
        int pending = notice_is_pending(guest);
        if (LOAD(guest->stop)) {
            press(guest, now);
        } else {
            if (pending) write_notice(guest, notice_for(LOAD(guest->words[WORD_TOLD])));
            STORE(guest->again_at, pending ? later(now, AGAIN_NS) : 0);
        }
    }
}

static void *run(void *nothing) {
#ifdef PR_SET_TIMERSLACK
    prctl(PR_SET_TIMERSLACK, 1000UL, 0, 0, 0); /* 1 us: the default of 50 would be most of a deadline's lateness */
#endif
    pthread_mutex_lock(&timer_lock);
    for (;;) {
        int64_t now = clock_now();
        if (now < wake_at) {
            timer_wait(&changed, wake_at);
            continue;
        }
        int any = __atomic_exchange_n(&armed_since, 0, __ATOMIC_SEQ_CST);
        int64_t span = __atomic_exchange_n(&shortest, NEVER, __ATOMIC_SEQ_CST), next = NEVER;
        STORE(wake_at, NEVER); /* from here on, a call that arms a guest wakes this thread */
        for (struct guest *guest = guests, *after; guest; guest = after) {
            after = guest->next;
            look_at(guest, now);
            int64_t first = earliest(guest);
            if (first < next) next = first;
        }
        if (next != NEVER) {
            handlers_look();
            if (next > now + LOOK_AT_HANDLERS_NS) next = now + LOOK_AT_HANDLERS_NS;
        }
        /* Wake as early as the next call may need, so that calls of the same length do not have to wake this thread each time. */
        if (any) {
            if (span < NEVER - now && now + span < next) next = now + span;
            int64_t expected = NEVER;
            __atomic_compare_exchange_n(&shortest, &expected, span, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        }
        if (next < wake_at) STORE(wake_at, next);
    }
    return nothing;
}

int timer_thread(void *(*work)(void *), void *argument) {
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* the new thread takes no signal that is meant for Python */
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 256 * 1024);
    int started = !pthread_create(&thread, &attributes, work, argument);
    if (!started) { /* a library with much thread-local memory makes that stack too small */
        pthread_attr_t usual;
        pthread_attr_init(&usual);
        pthread_attr_setdetachstate(&usual, PTHREAD_CREATE_DETACHED);
        started = !pthread_create(&thread, &usual, work, argument);
        pthread_attr_destroy(&usual);
    }
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

/* Under the lock: start the thread, if it does not run. 0: there is none; the next call tries again. */
static int start(void) {
    if (running) return 1;
    if (!condition_made) timer_condition(&changed), condition_made = 1;
    running = timer_thread(run, NULL);
    return running;
}

/* Under the lock: have the thread look no later than at that time. 0: there is no thread. */
static int look_by(int64_t time) {
    int started = start();
    if (started && time < wake_at) {
        STORE(wake_at, time);
        pthread_cond_signal(&changed);
    }
    return started;
}

struct guest *timer_guests(void) { return guests; }

void timer_link(struct guest *guest) {
    pthread_mutex_lock(&timer_lock);
    timer_condition(&guest->wake);
    guest->previous = NULL;
    guest->next = guests;
    if (guests) guests->previous = guest;
    guests = guest;
    guest->linked = 1;
    pthread_mutex_unlock(&timer_lock);
}

void timer_unlink(struct guest *guest) {
    pthread_mutex_lock(&timer_lock);
    if (guest->linked) {
        if (guest->previous) guest->previous->next = guest->next;
        else guests = guest->next;
        if (guest->next) guest->next->previous = guest->previous;
        guest->linked = 0;
        pthread_cond_destroy(&guest->wake);
    }
    pthread_mutex_unlock(&timer_lock);
}

int timer_arm(struct guest *guest, int64_t tell_at, int64_t stop_at, int64_t poll_ns) {
    int64_t now = guest->began, first = NEVER;
    STORE(guest->tell_at, tell_at);
    STORE(guest->stop_at, stop_at);
    if (tell_at) first = tell_at;
    if (stop_at && stop_at < first) first = stop_at;
    if (poll_ns) {
        STORE(guest->poll_at, later(now, poll_ns));
        if (later(now, poll_ns) < first) first = later(now, poll_ns);
    }
    if (LOAD(guest->cpu_at) && LOAD(guest->cpu_at) < first) first = LOAD(guest->cpu_at);
    if (first == NEVER) return 1;
    if (!LOAD(armed_since)) STORE(armed_since, 1);
    if (first - now < LOAD(shortest)) STORE(shortest, first - now);
    if (first >= LOAD(wake_at)) return 1;
    pthread_mutex_lock(&timer_lock);
    int started = look_by(first);
    pthread_mutex_unlock(&timer_lock);
    return started;
}

int timer_arm_again(struct guest *guest) {
    int64_t first = earliest(guest);
    if (first == NEVER || first >= LOAD(wake_at)) return 1;
    pthread_mutex_lock(&timer_lock);
    int started = look_by(first);
    pthread_mutex_unlock(&timer_lock);
    return started;
}

void timer_forget(struct guest *guest) {
    STORE(guest->tell_at, 0);
    STORE(guest->stop_at, 0);
    STORE(guest->poll_at, 0);
    STORE(guest->again_at, 0);
    STORE(guest->cpu_at, 0);
}

int timer_disarm(struct guest *guest) {
    timer_forget(guest);
    if (!LOAD(guest->handled)) return 1;
    pthread_mutex_lock(&timer_lock);
    timer_forget(guest); /* the thread may have set a time meanwhile */
    if (guest->locked)
        guest->locked = mprotect(guest->base + STOP_PAGE, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE) != 0;
    int usable = !guest->locked;
    STORE(guest->handled, 0);
    pthread_mutex_unlock(&timer_lock);
    return usable;
}

/* Under the lock: whether the call of that number (0: any) is under way. */
static int is_meant(const struct guest *guest, uint64_t serial) {
    uint64_t state = LOAD(guest->words[WORD_STATE]);
    return (state == CLOCHE_RUNNING || state == CLOCHE_WAITING) && (!serial || serial == LOAD(guest->words[WORD_SERIAL]));
}

int timer_cancel(struct guest *guest, uint64_t handle, uint64_t serial, uint64_t reason, int at_once) {
    int status = CLOCHE_BUSY;
    pthread_mutex_lock(&timer_lock);
    if (guest->linked && LOAD(guest->handle) == handle) {
        STORE(guest->handled, 1); /* before the state is read: so the guest cannot end its call before this function has returned */
        if (serial && !is_meant(guest, serial) && serial - LOAD(guest->words[WORD_SERIAL]) <= 1) {
            STORE(guest->early, serial);
            if (LOAD(guest->beginning) == serial) status = CLOCHE_DONE; /* it looks at `early` when it runs */
        }
        if (is_meant(guest, serial)) {
            int64_t now = clock_now();
            if (reason == CLOCHE_CANCELLED) STORE(guest->cancelled, 1);
            int told = end_soon(guest, reason, at_once, now);
            int64_t first = earliest(guest);
            if (first != NEVER && !look_by(first) && !LOAD(guest->stop))
                stop(guest, now); /* without a thread nothing would stop it after the grace */
            status = told ? CLOCHE_DONE : CLOCHE_BUSY;
        }
    }
    pthread_mutex_unlock(&timer_lock);
    return status;
}

enum woken timer_sleep(struct guest *guest, int64_t until) {
    int64_t poll_ns = span_of(guest->words[WORD_POLL_NS]), poll_at = poll_ns ? later(clock_now(), poll_ns) : NEVER;
    enum woken woken;
    pthread_mutex_lock(&timer_lock);
    account_pause(guest);
    for (;;) {
        int64_t now = clock_now();
        if (is_armed_anew(guest, now)) STORE(guest->handled, 1);
        int64_t stop_at = LOAD(guest->stop_at), tell_at = LOAD(guest->tell_at);
        if (tell_at && tell_at <= now) STORE(guest->handled, 1), tell(guest, CLOCHE_DEADLINE, now);
        if (stop_at && stop_at <= now) set_stop(guest, reason_to_stop(guest));
        woken = LOAD(guest->stop)          ? WOKEN_STOP
                : notice_is_pending(guest) ? WOKEN_NOTICE
                : now >= until             ? WOKEN_TIME
                : now >= poll_at           ? WOKEN_POLL
                                           : (enum woken) - 1;
        if (woken != (enum woken) - 1) break;
        int64_t next = until < poll_at ? until : poll_at;
        if (stop_at && stop_at < next) next = stop_at;
        tell_at = LOAD(guest->tell_at);
        if (tell_at && tell_at < next) next = tell_at;
        timer_wait(&guest->wake, next);
    }
    account_resume(guest);
    if (LOAD(guest->cpu_at)) look_by(LOAD(guest->cpu_at));
    pthread_mutex_unlock(&timer_lock);
    return woken;
}

void timer_forked(void) {
    running = 0;
    condition_made = 0;
    STORE(wake_at, NEVER);
    for (struct guest *guest = guests; guest; guest = guest->next) timer_condition(&guest->wake);
}
