/* A guest as the core sees it, and what the core's parts have in common. */
#ifndef CLOCHE_CORE_H
#define CLOCHE_CORE_H

#include "cloche.h"
#include "engine.h"
#include "stacks.h"
#include <pthread.h>
#include <time.h>

#define LOAD(place) __atomic_load_n(&(place), __ATOMIC_SEQ_CST)
#define STORE(place, value) __atomic_store_n(&(place), (value), __ATOMIC_SEQ_CST)

struct guest {
    uint64_t words[CLOCHE_WORDS]; /* shared with Python: first, so that their address is the guest's */
    uint64_t handle;
    struct cloche_image *image;
    void *store, *context;
    struct engine_func functions[4];
    struct engine_extern memory, stack_pointer;
    int64_t stack_top;
    uint8_t *base;

    /* the call under way */
    struct fiber fiber;
    pthread_t thread;
    struct guest *outer; /* the guest in whose call this one was entered, on the same thread */
    union engine_raw values[5];
    int function;
    uint32_t arguments[4];
    uint32_t block;      /* address of a request that is larger than the request buffer; 0: none */
    int status;          /* of the fiber, when it was last left: enum cloche_status */
    int hears;           /* whether the guest can hear a notice: node_call runs */
    struct guest *below; /* the guest that waited on this thread before: they go on in the reverse order */
    int inside_ask;      /* another export than node_call runs, while the guest waits or is at rest: it must not wait for Python */
    int trapped;
    int64_t began;
    uint64_t answer; /* what the import `call` returns */
    int command;     /* what the fiber does when it goes on: GO_ON, UNWIND or RUN_EXPORT */
    char message[256];
    int message_length;
    uint8_t chunk[64]; /* random bytes: unused ones of the system, or the block that `chunk_of` stands for */
    int chunk_left;
    uint64_t read[ANSWERED_RANDOM]; /* the last reading of each clock that the journal has */
    int taped;                      /* the message of the call under way is on the tape */
    uint64_t journal_from;          /* where the answers of the call begin in the journal */
    int tape_lost, tape_told;       /* in this call: something had no room there; an answer told the guest to stop */
    uint64_t chunk_of[6];           /* 1, the key and the block's number; 0: the system's bytes */

    /* shared with the timer: under its lock, or atomic */
    struct guest *next, *previous;
    int linked;
    int64_t tell_at, stop_at, poll_at, again_at; /* 0: never */
    uint64_t items_begun;                        /* of a batch, when its deadline was last armed */
    uint64_t stop;                               /* enum cloche_reason: if set, the guest must not run on */
    uint64_t early;                              /* the serial number of a call that was cancelled before it began */
    uint64_t beginning;                          /* the serial number of the call that begins, and looks at `early` yet; or 0 */
    int cancelled;                               /* whether this call was cancelled, whatever the guest was told before */
    int noticed;                                 /* a notice was written in this call */
    int handled; /* another thread has changed what is armed since this guest last disarmed under the lock */
    int locked;
    struct cloche_account *account; /* of the call under way; NULL: none. Stored last when a call begins, and first when it ends */
    int64_t cpu_began;              /* processor time of the thread at the begin, and later by that of other guests' calls */
#ifndef __APPLE__
    int cpu_clock; /* the clockid_t of the thread */
#endif
    int64_t cpu_at;               /* when to look whether the account has time left; 0: never */
    int64_t cpu_kept, cpu_paused; /* while it waits: cpu_at, and what it has used */
    pthread_cond_t wake;          /* wakes a guest in the import `sleep`; with the timer's lock */
    int forked; /* atomic: it was in a call when this process was forked. Must be the last member, see table_take */
};

extern struct cloche_engine engine;

int64_t clock_now(void);
/* account.c */
void account_begin(struct guest *guest);  /* a call begins, on this thread */
void account_pause(struct guest *guest);  /* it waits, or sleeps */
void account_resume(struct guest *guest); /* it goes on to compute */
void account_settle(struct guest *guest,
                    struct guest *waiting); /* it has ended; the guests that wait on this thread do not pay for it */
int64_t account_left(struct cloche_account *account, struct guest *guests, int64_t now); /* with the timer's lock */
/* The sum of two times that are not negative, without overflow. INT64_MAX means never. */
static inline int64_t later(int64_t time, int64_t span) { return span > INT64_MAX - time ? INT64_MAX : time + span; }
/* A span of a word that Python has set; one that does not fit is the longest there is. */
static inline int64_t span_of(uint64_t word) { return word > INT64_MAX ? INT64_MAX : (int64_t)word; }
/* Stop a guest for that reason, unless it has been stopped for another one: the first reason counts. */
static inline void set_stop(struct guest *guest, uint64_t reason) {
    uint64_t none = CLOCHE_NO_REASON;
    __atomic_compare_exchange_n(&guest->stop, &none, reason, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* timer.c */
extern pthread_mutex_t timer_lock;
void timer_link(struct guest *guest);
void timer_unlink(struct guest *guest);
/* Arm the deadline of a call. Times are absolute, 0: never; tell_at and poll_ns only where the guest can hear a notice. Returns
   0 if the timer's thread would be needed and cannot be started: then nothing would stop the guest. */
int timer_arm(struct guest *guest, int64_t tell_at, int64_t stop_at, int64_t poll_ns);
int timer_arm_again(struct guest *guest); /* see to the same times again: after a fork, the thread is gone */
int timer_disarm(struct guest *guest);    /* 0: the stop page could not be unlocked, so the guest cannot be used again */
void timer_forget(struct guest *guest);   /* in a forked process: its times mean nothing any more */
int timer_cancel(struct guest *guest, uint64_t handle, uint64_t serial, uint64_t reason, int now);
/* Wait until that time, or until the guest is told something, or until Python wants to look at its signals. */
enum woken { WOKEN_TIME, WOKEN_NOTICE, WOKEN_STOP, WOKEN_POLL };
enum woken timer_sleep(struct guest *guest, int64_t until);
void timer_clear_notice(struct guest *guest); /* of a guest at rest */
void timer_forked(void);
/* For what else is done under its lock: */
struct guest *timer_guests(void);                                /* the first one of all */
void timer_condition(pthread_cond_t *condition);                 /* make one */
void timer_wait(pthread_cond_t *condition, int64_t until);       /* INT64_MAX: without end */
int timer_thread(void *(*work)(void *argument), void *argument); /* start a thread that takes no signals; 0: there is none */

/* sampler.c */
void samplers_forked(void);

/* random.c */
uint64_t random_word(struct guest *guest);

/* journal.c */
void journal_note(struct guest *guest, int kind, uint64_t value); /* an import has answered so */
int journal_take(struct guest *guest, int kind, uint64_t *value); /* what it answered; 0: something else, or nothing more */

/* tape.c */
int tape_is_on(const struct guest *guest);
void tape_begin(struct guest *guest, const uint8_t *message, size_t length);       /* a call begins */
void tape_add(struct guest *guest, int kind, const uint8_t *bytes, size_t length); /* a frame goes in, or comes out */
void tape_answered(struct guest *guest, uint64_t code);                            /* a request is answered by ANSWER_* */
void tape_end(struct guest *guest);

/* core.c */
/* The bytes of linear memory at an address; NULL if the range is not inside, or meets the stop page. */
const uint8_t *guest_bytes(const struct guest *guest, uint64_t address, uint64_t length);

/* guests.c */
struct guest *table_take(void); /* a guest without image and store; NULL: no memory */
void table_give_back(struct guest *guest);
struct guest *guest_find(uint64_t handle); /* NULL: there is none any more */
/* Take a guest that is in that state: from here on nobody else changes or frees it, until another state is stored. */
int guest_take(struct guest *guest, uint64_t handle, uint64_t state);
int guests_follow_forks(void); /* once; 0: no memory */

/* crossing.c */
enum { GO_ON, UNWIND, RUN_EXPORT };               /* guest->command */
struct guest *current_guest(void);                /* the one that runs on this thread, the innermost one; NULL: none */
int guest_cross(struct guest *guest, int begin);  /* enter the guest, or let it go on; what it has come to */
int guest_run(struct guest *guest);               /* on its stack: call guest->function with guest->arguments */
void guest_wait(struct guest *guest, int status); /* on its stack: leave it with that status, until it is to go on */
/* Note for cloche_message what the engine has to say, and delete it. */
void keep_error(struct guest *guest, void *error);
void keep_trap(struct guest *guest, void *trap);

#endif
