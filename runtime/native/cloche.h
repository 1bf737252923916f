/* The native core: what runs between Python and the WebAssembly engine. This header is the contract.

   Python loads the core with ctypes and calls the functions below. The core calls no Python: no callback, no GIL, no Python.h.
   It calls the engine (wasmtime's C library) only through the table of functions that Python passes to cloche_start (engine.h).

   A *guest* is a store with one instance of the image. It runs on a stack of its own (stacks.h), so that a call can be left in
   the middle: when the guest asks its host for something, cloche_call returns CLOCHE_ASKS to Python, which works out the answer
   as ordinary Python code and then lets the guest go on (cloche_answer). So no stack ever has frames of Python above those of a
   guest, and an exception that Python raises, at whatever bytecode, never passes through the engine.

   A guest is named by a handle: a number that is never used again. Every function refuses a handle whose guest has been freed.
   Of one guest, one thread at a time may call cloche_message, cloche_call, cloche_enter, cloche_answer, cloche_go_on and
   cloche_abandon, and a call that was left in the middle goes on on its own thread. Any thread may call cloche_cancel,
   cloche_read and cloche_free, and the functions of samplers. */
#ifndef CLOCHE_H
#define CLOCHE_H

#include "numbers.h"
#include <stddef.h>
#include <stdint.h>

#define CLOCHE_EXPORT __attribute__((visibility("default")))
#define CLOCHE_CORE_VERSION 1

/* The enums of this contract are in numbers.h. A function that lets a guest run returns an enum cloche_status. What Python and the
   core share of a guest are CLOCHE_WORDS words of 64 bits (enum cloche_word), at the address that cloche_new writes. That memory
   stays readable for the life of the process, also after the guest is freed. */

/* What all guests of one image on one engine have in common. It must outlive them. */
struct cloche_image {
    void *engine;                           /* wasm_engine_t */
    void *instance_pre;                     /* wasmtime_instance_pre_t */
    uint64_t metering;                      /* enum cloche_metering */
    uint64_t wasm_stack_bytes;              /* the engine's max_wasm_stack */
    uint64_t ring_bytes;                    /* the log ring with its header */
    uint64_t ring_used_at, ring_dropped_at; /* offsets of two of its words */
    uint64_t ring_held_at;                  /* offset of two words that are 0 if no line is held behind the ring */
    uint64_t ring_header_bytes, ring_capacity;
    uint64_t request_buffer_bytes;
    uint64_t notice_bit;    /* what to set in the word at `notice_bit_at` once a notice is written */
    uint64_t notice_bit_at; /* its address in linear memory; 0: not known yet, no notice is given */
};

/* Pays for the processor time of guests: of all whose WORD_ACCOUNT is its address, together. It must outlive their calls. Times are
   nanoseconds. A guest that runs when the time is used up is told to stop, and stopped after the grace (CLOCHE_BUDGET). The time
   of a guest counts from the begin of its call to the end, as its thread's processor time, without that of guests with an account
   that are called meanwhile on the same thread. */
struct cloche_account {
    int64_t limit;                         /* set by Python: how much may be used in all */
    int64_t elsewhere;                     /* set by Python: what was used outside of the core */
    int64_t used;                          /* set by the core: what calls that have ended have used */
    int64_t looked_at, running, under_way; /* the timer's own */
};

/* What a sampler has found (sampler.c). Texts are UTF-8, untrusted, and cut; 0 bytes: it could not be read. Lines: 0: unknown. */
enum { CLOCHE_LANES = 256, CLOCHE_TEXT_CHARACTERS = 200, CLOCHE_TEXT_BYTES = 4 * CLOCHE_TEXT_CHARACTERS };
struct cloche_sampled_function {
    int32_t first_line;
    uint32_t file_bytes, name_bytes;
    char file[CLOCHE_TEXT_BYTES], name[CLOCHE_TEXT_BYTES];
};
struct cloche_sampled_place { /* in the code of a function */
    uint32_t function, offset;
    int32_t line;
};
/* A node of the tree is a place, below its caller. Callers come first; the first CLOCHE_LANES nodes are the roots of the lanes. */
struct cloche_sampled_node {
    uint32_t parent, place;
    uint64_t samples, spent_ns; /* where this was the innermost frame */
};
struct cloche_sampled_lane {
    uint64_t samples; /* in which the guest was in a call */
    uint64_t rested;  /* in which it was not */
    uint64_t torn;    /* of which only the outer frames are believed, because it went on while it was read */
    uint64_t cut;     /* of which the outermost frames are missing, because there were too many */
    uint64_t lost;    /* which say nothing */
    uint64_t full;    /* of which inner frames are missing, because there was no room left to note them */
};

struct cloche_engine;

/* Call this once in a process, before the first engine is made: from then on the core's handlers get the faults. 0, or
   CLOCHE_ENGINE_FAILED if a function is missing. */
CLOCHE_EXPORT int cloche_start(const struct cloche_engine *functions, size_t bytes);

/* Make a guest; it is at rest. The address of its words is written to *words, and then its handle to *handle, before the engine
   makes the guest: so Python cannot lose it when it is interrupted. A guest that could not be made has a handle, too, for
   cloche_message, and has to be freed. */
CLOCHE_EXPORT int cloche_new(struct cloche_image *image, uint64_t memory_limit, uint64_t *handle, uint64_t *words);

/* Free a guest. A second time does nothing. One that runs on another thread, or waits there, is not freed: CLOCHE_BUSY. */
CLOCHE_EXPORT int cloche_free(uint64_t handle);

/* Bound its linear memory from now on. */
CLOCHE_EXPORT int cloche_limit_memory(uint64_t handle, uint64_t bytes);

/* One message: arm the deadline, copy the request in, call node_call, disarm. WORD_RESULT has what it returned. */
CLOCHE_EXPORT int cloche_call(uint64_t handle, const uint8_t *request, size_t length);

/* Call another export: at rest, under the same deadline but without a notice; or while the guest waits, as a part of its call. */
CLOCHE_EXPORT int cloche_enter(uint64_t handle, int function, uint32_t a, uint32_t b, uint32_t c, uint32_t d);

/* Answer a guest that asks: bytes, which are copied into a block of its own allocator, or (bytes NULL) the packed value itself. */
CLOCHE_EXPORT int cloche_answer(uint64_t handle, const uint8_t *bytes, size_t length, uint64_t packed);

/* Go on after CLOCHE_POLLS. */
CLOCHE_EXPORT int cloche_go_on(uint64_t handle);

/* Have a guest that waits end its call: it is told to stop, and stopped after the grace, or after a second if the grace is
   longer. Whatever it asks meanwhile is not answered. One call, so that Python can make it at the very end of its stack. */
CLOCHE_EXPORT int cloche_end_call(uint64_t handle);

/* Unwind a guest that waits: it is broken afterwards. Does nothing in any other state. */
CLOCHE_EXPORT int cloche_abandon(uint64_t handle);

/* Tell the guest's call of that serial number (0: whichever is under way) to stop, for that reason (CLOCHE_CANCELLED or
   CLOCHE_DEADLINE), and stop it if it still runs after the grace. now: stop it at once. A call that has ended is not affected; one
   that is about to begin (the number after the last one) is told as soon as it has. */
CLOCHE_EXPORT int cloche_cancel(uint64_t handle, uint64_t serial, int reason, int now);

/* Copy guest memory out, whatever the guest is doing. CLOCHE_DONE, or CLOCHE_REFUSED for a range outside of it. */
CLOCHE_EXPORT int cloche_read(uint64_t handle, uint64_t address, void *to, size_t length);

/* Grow linear memory to at least so many bytes; at rest. */
CLOCHE_EXPORT int cloche_grow(uint64_t handle, uint64_t bytes);

/* Find where the memory of a guest at rest differs from the image's: from that of the guest `image`, which has never run and which
   the caller keeps from being freed meanwhile. Behind the image's end its memory counts as zeros. What calls have left
   where nobody reads it any more (the stack, the log ring, the notice) is overwritten with the image's bytes first. Only the pages, of 4096 bytes, are compared whose numbers
   are at `pages`; those that differ are left there, in the same order, and their masks, of 64 bytes each, are written to `masks`, where
   there must be room for all pages. found[0] gets the number of pages that differ, found[1] the bytes of their words that
   differ. CLOCHE_REFUSED for a page outside of the memory. */
CLOCHE_EXPORT int cloche_compare(uint64_t handle, uint64_t image, uint32_t *pages, size_t count, uint8_t *masks, uint64_t *found);

/* Copy the words of masks out of a guest at rest. CLOCHE_REFUSED for a page outside of the memory, and if the masks do not ask for
   just `length` bytes of words. */
CLOCHE_EXPORT int cloche_gather(uint64_t handle, const uint8_t *pages, size_t count, const uint8_t *masks, uint8_t *words,
                                size_t length);

/* Write such words into a guest at rest whose memory is as the image's, and large enough. All may be a stranger's: refused as
   above, and the guest is to be freed then. */
CLOCHE_EXPORT int cloche_patch(uint64_t handle, const uint8_t *pages, size_t count, const uint8_t *masks, const uint8_t *words,
                               size_t length);

/* Whether the guest is at rest and its last call has left nothing on the shadow stack: the stack's pointer has its initial
   value. */
CLOCHE_EXPORT int cloche_is_clean(uint64_t handle);

/* Why the last call on this guest failed, as the engine says it. Bytes written, without a terminator. */
CLOCHE_EXPORT size_t cloche_message(uint64_t handle, char *to, size_t room);

/* Guests that exist, and guest stacks that are mapped: for tests and for leak checks. */
CLOCHE_EXPORT uint64_t cloche_count_guests(void);
CLOCHE_EXPORT uint64_t cloche_count_stacks(void);

/* Note the handlers of faults that the engine has installed; call this once an engine exists. Returns which of them are known,
   as bits; 0: none, because an engine was made before cloche_start, and other code has replaced its handlers since. */
CLOCHE_EXPORT int cloche_note_handlers(void);
/* Put back the handlers of faults that the core or the engine needs, where other code has replaced them; 1 if it has. */
CLOCHE_EXPORT int cloche_keep_handlers(void);

/* How often handlers had to be put back so far. */
extern CLOCHE_EXPORT uint64_t cloche_handlers_replaced;

/* Sample the guests whose WORD_SAMPLER is the number that this returns << 16 | a lane below CLOCHE_LANES, about every period_ns.
   `layout`: the words of the image's layout table. Negative: an enum cloche_status; CLOCHE_BUSY: there are too many samplers. */
CLOCHE_EXPORT int cloche_sampler_begin(const uint32_t *layout, size_t count, uint64_t period_ns);

/* End a sampler; what it has found is gone then. */
CLOCHE_EXPORT int cloche_sampler_end(int number);

/* Copy items of one kind (enum cloche_sampled) of what a sampler has found, from that one on. Returns how many; CLOCHE_REFUSED: there
   is no such sampler. Read nodes first, then places, then functions: what an earlier item refers to is there. */
CLOCHE_EXPORT int cloche_sampled(int number, int kind, uint32_t first, void *to, uint32_t room);

/* A fast digest of a buffer: it shows damage, but anybody can forge it. */
CLOCHE_EXPORT uint64_t cloche_checksum(const void *bytes, size_t length);

#endif
