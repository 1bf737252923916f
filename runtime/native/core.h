/* A guest as the core sees it, and what the core's parts have in common. */
#ifndef CLOCHE_CORE_H
#define CLOCHE_CORE_H

#include "cloche.h"
#include "engine.h"
#include "stacks.h"
#include <pthread.h>

#define LOAD(place) __atomic_load_n(&(place), __ATOMIC_SEQ_CST)
#define STORE(place, value) __atomic_store_n(&(place), (value), __ATOMIC_SEQ_CST)

/* Numbers of guest/cloche_wire/abi.py; a test compares them. */
enum { NOTICE_NONE = 0, NOTICE_DEADLINE = 1, NOTICE_CANCEL = 2, NOTICE_POLL = 3, WASI_EINTR = 27 };
enum { STOP_PAGE = 0 };

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
    uint32_t block;      /* of a request that is larger than the request buffer */
    int status;          /* what the fiber has come to */
    int hears;           /* whether a notice makes sense: node_call runs */
    struct guest *below; /* guests that wait on one thread go on in the reverse order */
    int inside_ask;      /* an export runs while the guest waits in `call`: it cannot ask again */
    int trapped;
    int64_t began;
    uint64_t answer;     /* what the import `call` returns */
    int command;         /* what the fiber does when it goes on */
    char message[256];
    int message_length;
    uint8_t chunk[64];   /* random bytes that have not been used */
    int chunk_left;

    /* shared with the timer: under its lock, or atomic */
    struct guest *next, *previous;
    int linked;
    int64_t tell_at, stop_at, poll_at, again_at; /* 0: never */
    uint64_t stop;       /* enum cloche_reason: must not run on */
    uint64_t early;      /* a call that was cancelled before it began */
    int noticed;         /* a notice was written in this call */
    int handled;         /* the timer is looking at this guest, or has locked its stop page */
    int locked;
    int forked;          /* it was in a call of a thread that does not exist in this process */
    pthread_cond_t wake; /* with the timer's lock: for `sleep` */
};

extern struct cloche_engine engine;

int64_t clock_now(void);

/* timer.c */
extern pthread_mutex_t timer_lock;
void timer_link(struct guest *guest);
void timer_unlink(struct guest *guest);
/* Times are absolute; 0: never. tell and poll only where the guest can hear a notice. Returns 0 if no thread could be started. */
int timer_arm(struct guest *guest, int64_t tell_at, int64_t stop_at, int64_t poll_ns);
void timer_disarm(struct guest *guest);
int timer_cancel(struct guest *guest, uint64_t handle, uint64_t serial, uint64_t reason, int now);
/* Wait until then, or until the guest is told something. 0; or whether Python should look at its signals. */
enum woken { WOKEN_TIME, WOKEN_NOTICE, WOKEN_STOP, WOKEN_POLL };
enum woken timer_sleep(struct guest *guest, int64_t until);
void timer_clear_notice(struct guest *guest); /* at rest */
void timer_forked(void);

/* imports.c */
struct guest *current_guest(void);
void set_current_guest(struct guest *guest);
/* Leave the fiber with that status; what to do when it goes on is in guest->command. */
void guest_wait(struct guest *guest, int status);

/* random.c */
uint64_t random_word(struct guest *guest);

/* core.c */
enum { GO_ON, UNWIND, RUN_EXPORT };
int guest_run(struct guest *guest); /* call guest->function with guest->arguments, on the guest's stack */

#endif
