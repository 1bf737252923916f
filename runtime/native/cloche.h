/* The native core: what runs between Python and the WebAssembly engine. This header is the contract.

   Python loads the core with ctypes and calls the functions below. The core calls no Python: no callback, no GIL, no Python.h.
   It knows the engine (wasmtime's C library) only through the table of functions that it is given, see engine.h.

   A *guest* is a store with one instance of the image. It runs on a stack of its own (stacks.h), so that a call can be left in the
   middle: when the guest asks its host for something, cloche_call returns CLOCHE_ASKS to Python, which answers as ordinary Python code
   does, and then lets the guest go on. Nothing of Python ever lies below a guest on any stack, so whatever Python raises, at whatever
   bytecode, never passes through the engine.

   A guest is named by a handle: a number that is never used again. Every function refuses a handle whose guest has been freed.
   Of one guest, one thread at a time may call cloche_message, cloche_call, cloche_enter, cloche_answer, cloche_go_on and cloche_abandon, and a call
   that was left in the middle goes on on its own thread. Any thread may call cloche_cancel, cloche_read and cloche_free. */
#ifndef CLOCHE_H
#define CLOCHE_H

#include <stddef.h>
#include <stdint.h>

#define CLOCHE_EXPORT __attribute__((visibility("default")))
#define CLOCHE_CORE_VERSION 1

/* What a function that lets a guest run returns. Negative: it has not run. */
enum cloche_status {
    CLOCHE_DONE = 0,           /* the guest has returned; it is at rest */
    CLOCHE_ASKS = 1,           /* it waits inside the import `call`: request at WORD_ADDRESS, WORD_LENGTH */
    CLOCHE_POLLS = 2,          /* it waits while Python looks at its signals: cloche_go_on */
    CLOCHE_TRAPPED = 3,        /* it was stopped or has crashed: free it. WORD_STOPPED, WORD_TRAP_CODE, cloche_message */
    CLOCHE_NO_GUEST = -1,      /* the handle names no guest any more */
    CLOCHE_OTHER_PROCESS = -2, /* the guest was in a call of another thread when this process was forked */
    CLOCHE_BUSY = -3,          /* it is not at rest (or, for an answer, does not wait); or it is another thread's */
    CLOCHE_NO_MEMORY = -4, /* the operating system gives no more memory or address space, or no thread that would keep a deadline */
    CLOCHE_NO_ROOM = -5,   /* the guest's own allocator has no block of that size left */
    CLOCHE_ENGINE_FAILED = -6, /* the engine refused; cloche_message */
    CLOCHE_REFUSED = -7,       /* a range that lies outside the guest's memory */
};

/* Why a guest was stopped, or told to stop. */
enum cloche_reason {
    CLOCHE_NO_REASON = 0,
    CLOCHE_DEADLINE = 1,
    CLOCHE_CANCELLED = 2,
    CLOCHE_EXITED = 3,
    CLOCHE_REENTERED = 4,
    CLOCHE_ABANDONED = 5
};

enum cloche_metering { CLOCHE_GUARD = 0, CLOCHE_EPOCH = 1, CLOCHE_FUEL = 2, CLOCHE_UNMETERED = 3 };

/* The exports that a guest can be entered by. */
enum cloche_function { CLOCHE_NODE_CALL = 0, CLOCHE_NODE_ALLOC = 1, CLOCHE_NODE_FREE = 2, CLOCHE_NODE_CHECK = 3 };

/* What Python and the core share of a guest: words of 64 bits, at the address that cloche_new writes. Times are nanoseconds. The
   memory stays readable for the life of the process, also after the guest is freed. */
enum cloche_word {
    /* set by Python, between calls */
    WORD_REQUEST_AT = 0,  /* the guest's request buffer, of REQUEST_BUFFER_BYTES */
    WORD_MAX_NODES = 1,   /* third argument of node_call */
    WORD_MAX_DEPTH = 2,   /* fourth argument of node_call */
    WORD_DEADLINE_NS = 3, /* how long a call may take until the guest is told to stop; 0: without end */
    WORD_GRACE_NS = 4,    /* how much longer until it is stopped */
    WORD_POLL_NS = 5,     /* how often Python wants to look at its signals meanwhile; 0: never */
    WORD_FUEL = 6,        /* instructions for the next call, under CLOCHE_FUEL */
    WORD_CLOCK_MODE = 7,  /* 0: the host's clocks; 1: clocks that advance by sleeping and by being read; 2: that stand still */
    WORD_CLOCK_START = 8,
    WORD_CLOCK_SLEPT = 9,
    WORD_CLOCK_STEPPED = 10,
    WORD_CLOCK_STEP = 11,
    WORD_SEEDED = 12,  /* whether random words come from the key below */
    WORD_DRAWN = 13,   /* random words drawn so far */
    WORD_KEY = 14,     /* 4 words: 32 bytes of key */
    WORD_GRANTED = 18, /* whether the import `call` asks Python; 0: it answers that nothing is granted */
    /* set by the core */
    WORD_STATE = 24,   /* enum cloche_state */
    WORD_ADDRESS = 25, /* of a request of the guest */
    WORD_LENGTH = 26,
    WORD_RESULT = 27,    /* what the export returned */
    WORD_STOPPED = 28,   /* enum cloche_reason: why it was stopped; 0: the trap was its own */
    WORD_TOLD = 29,      /* enum cloche_reason: what the guest was told in this call (DEADLINE or CANCELLED); 0: nothing */
    WORD_TRAP_CODE = 30, /* the engine's number of the trap; -1: none */
    WORD_EXIT_CODE = 31,
    WORD_RECORDS = 32,      /* whether the log ring has records, or has lost some */
    WORD_MEMORY_BYTES = 33, /* size of linear memory */
    WORD_TOOK_NS = 34,      /* how long the last call took, waiting for Python included */
    WORD_BURNED = 35,       /* fuel of the last call */
    WORD_TELL_AT = 36,      /* CLOCK_MONOTONIC at which the call under way is told to stop; 0: never */
    WORD_STOP_AT = 37,      /* at which it is stopped; 0: never */
    WORD_BASE = 38,         /* address of linear memory in this process; it never changes */
    WORD_RING = 39,         /* address of the log ring, of the notice words, of the layout table in linear memory */
    WORD_NOTICE = 40,
    WORD_LAYOUT = 41,
    WORD_SERIAL = 42, /* number of the call under way, or of the last one: for cloche_cancel */
    CLOCHE_WORDS = 48,
};

enum cloche_state {
    CLOCHE_FREE = 0,
    CLOCHE_AT_REST = 1,
    CLOCHE_RUNNING = 2,
    CLOCHE_WAITING = 3,
    CLOCHE_BROKEN = 4,
    CLOCHE_BETWEEN = 5 /* a call is about to begin, or the guest is being freed */
};

/* What all guests of one image on one engine have in common. It must outlive them. */
struct cloche_image {
    void *engine;                           /* wasm_engine_t */
    void *instance_pre;                     /* wasmtime_instance_pre_t */
    uint64_t metering;                      /* enum cloche_metering */
    uint64_t wasm_stack_bytes;              /* the engine's max_wasm_stack */
    uint64_t ring_bytes;                    /* the log ring with its header */
    uint64_t ring_used_at, ring_dropped_at; /* offsets of two of its words */
    uint64_t request_buffer_bytes;
    uint64_t notice_bit;    /* what to set in the word at `notice_bit_at` once a notice is written */
    uint64_t notice_bit_at; /* its address in linear memory; 0: not known yet, no notice is given */
};

struct cloche_engine;

/* Once in a process, before anything else, also before the first engine: from here on the core gets the faults. 0, or CLOCHE_ENGINE_FAILED if a function is missing. */
CLOCHE_EXPORT int cloche_start(const struct cloche_engine *functions, size_t bytes);

/* A guest at rest. The address of its words is written to *words, and then its handle to *handle, before the engine makes it: an
   interrupt in Python cannot lose it. One that could not be made has a handle, too, for cloche_message, and has to be freed. */
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

/* Have a guest that waits end its call: it is told to stop, and stopped after the grace, or after a second if the grace is longer. Whatever
   it asks meanwhile is not answered. One call, so that Python can make it at the very end of its stack. */
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

/* Whether the guest is at rest and nothing of its call is left: the shadow stack's pointer has its initial value. */
CLOCHE_EXPORT int cloche_is_clean(uint64_t handle);

/* Why the last call on this guest failed, as the engine says it. Bytes written, without a terminator. */
CLOCHE_EXPORT size_t cloche_message(uint64_t handle, char *to, size_t room);

/* Guests that exist, and guest stacks that are mapped: for tests and for leak checks. */
CLOCHE_EXPORT uint64_t cloche_count_guests(void);
CLOCHE_EXPORT uint64_t cloche_count_stacks(void);

/* The handlers of faults that the engine has installed: note them once an engine exists. Which of them are known; 0: none, because somebody
   has made an engine before cloche_start, and somebody has installed other handlers since. */
CLOCHE_EXPORT int cloche_note_handlers(void);
/* Put back the handlers of faults that the kernel has to have, if somebody has replaced them; 1 if so. */
CLOCHE_EXPORT int cloche_keep_handlers(void);

/* How often handlers had to be put back so far. */
extern CLOCHE_EXPORT uint64_t cloche_handlers_replaced;

/* A fast digest of a buffer: notices damage, proves no origin. */
CLOCHE_EXPORT uint64_t cloche_checksum(const void *bytes, size_t length);

#endif
