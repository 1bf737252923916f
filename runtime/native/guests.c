/* The table of guests: from a handle to its guest, and what a fork does to all of them.

   A guest's memory is never given back, only used again: Python may look at the words of one that is gone. */
#define _GNU_SOURCE
#include "core.h"
#include "handlers.h"
#include "redirect.h"
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 64, CHUNKS = 1 << 14 };
static struct guest *chunks[CHUNKS];
static uint32_t made; /* how many guests have memory */
static struct guest *unused;
static uint64_t count;
static uint32_t generation;
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;

struct guest *table_take(void) {
    pthread_mutex_lock(&table_lock);
    struct guest *guest = unused;
    uint32_t index = 0;
    if (guest) {
        unused = guest->next;
        index = (uint32_t)guest->handle;
    } else if (made < CHUNK * CHUNKS) {
        struct guest **chunk = &chunks[made / CHUNK];
        if (!*chunk) STORE(*chunk, calloc(CHUNK, sizeof **chunk));
        if (*chunk) guest = *chunk + made % CHUNK, index = made + 1, STORE(made, index);
    }
    if (guest) {
        /* Another thread with an old handle may still read the words and `handle`, and under the timer's lock all the rest. */
        for (int i = 0; i < CLOCHE_WORDS; i++) STORE(guest->words[i], 0);
        STORE(guest->forked, 0);
        pthread_mutex_lock(&timer_lock);
        memset(&guest->image, 0, offsetof(struct guest, forked) - offsetof(struct guest, image));
        pthread_mutex_unlock(&timer_lock);
        generation = generation % 0x7fffffff + 1;
        STORE(guest->handle, (uint64_t)generation << 32 | index);
        count++;
    }
    pthread_mutex_unlock(&table_lock);
    return guest;
}

void table_give_back(struct guest *guest) {
    pthread_mutex_lock(&table_lock);
    STORE(guest->words[WORD_STATE], CLOCHE_FREE);
    STORE(guest->handle, guest->handle & 0xffffffff); /* no handle has generation 0 */
    guest->next = unused;
    unused = guest;
    count--;
    pthread_mutex_unlock(&table_lock);
}

struct guest *guest_find(uint64_t handle) {
    uint32_t index = (uint32_t)handle - 1;
    if (!(handle >> 32) || index >= CHUNK * CHUNKS) return NULL;
    struct guest *chunk = LOAD(chunks[index / CHUNK]);
    if (!chunk) return NULL;
    struct guest *guest = chunk + index % CHUNK;
    return LOAD(guest->handle) == handle ? guest : NULL;
}

CLOCHE_EXPORT uint64_t cloche_count_guests(void) {
    pthread_mutex_lock(&table_lock);
    uint64_t found = count;
    pthread_mutex_unlock(&table_lock);
    return found;
}

/* Take a guest that is in that state: from here on nobody else changes or frees it, until another state is stored. */
int guest_take(struct guest *guest, uint64_t handle, uint64_t state) {
    uint64_t expected = state;
    if (!__atomic_compare_exchange_n(&guest->words[WORD_STATE], &expected, CLOCHE_BETWEEN, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        return LOAD(guest->forked) ? CLOCHE_OTHER_PROCESS : CLOCHE_BUSY;
    if (LOAD(guest->handle) == handle) return CLOCHE_DONE;
    STORE(guest->words[WORD_STATE], state); /* it has been freed since it was found, and its memory is another guest's now */
    return CLOCHE_NO_GUEST;
}

/* ---- forks */
static void before_fork(void) {
    pthread_mutex_lock(&table_lock);
    pthread_mutex_lock(&timer_lock);
    stack_before_fork();
    redirect_before_fork();
}
static void after_fork(void) {
    redirect_after_fork();
    stack_after_fork();
    pthread_mutex_unlock(&timer_lock);
    pthread_mutex_unlock(&table_lock);
}
static void after_fork_in_child(void) {
    handlers_forked();
    timer_forked();
    samplers_forked();
    for (uint32_t index = 0; index < made; index++) {
        struct guest *guest = chunks[index / CHUNK] + index % CHUNK;
        uint64_t state = LOAD(guest->words[WORD_STATE]);
        /* This thread is in no function of the core, so a guest that runs, or is between two states, was another thread's. */
        int busy = state == CLOCHE_RUNNING || state == CLOCHE_BETWEEN;
        if (busy || (state == CLOCHE_WAITING && !pthread_equal(guest->thread, pthread_self()))) {
            STORE(guest->forked, 1);
            timer_forget(guest);
        }
        if (!guest->chunk_of[0]) guest->chunk_left = 0; /* or both processes would draw the same random words */
    }
    after_fork();
}

int guests_follow_forks(void) { return !pthread_atfork(before_fork, after_fork, after_fork_in_child); }
