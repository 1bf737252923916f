/* Generated from cloche/_wasm/core.py and cloche_wire/abi.py by write_numbers.py. */
#ifndef CLOCHE_NUMBERS_H
#define CLOCHE_NUMBERS_H

/* clang-format off */

/* What a call into a guest has come to; negative: the guest has not run. */
enum cloche_status {
    CLOCHE_DONE = 0, /* the guest has returned; it is at rest */
    CLOCHE_ASKS = 1, /* it waits inside the import `call`: request at WORD_ADDRESS, WORD_LENGTH */
    CLOCHE_POLLS = 2, /* it waits while Python looks at its signals: cloche_go_on */
    CLOCHE_TRAPPED = 3, /* it was stopped or has crashed: free it. WORD_STOPPED, WORD_TRAP_CODE, cloche_message */
    CLOCHE_NO_GUEST = -1, /* the handle names no guest any more */
    CLOCHE_OTHER_PROCESS = -2, /* the guest was in a call of another thread when this process was forked */
    CLOCHE_BUSY = -3, /* it is not at rest (or, for an answer, does not wait); or it is another thread's */
    CLOCHE_NO_MEMORY = -4, /* the system has no more memory or address space */
    CLOCHE_NO_ROOM = -5, /* the guest's own allocator has no block of that size left */
    CLOCHE_ENGINE_FAILED = -6, /* the engine refused; cloche_message */
    CLOCHE_REFUSED = -7, /* a range that lies outside the guest's memory */
    CLOCHE_NO_THREAD = -8, /* the system starts no thread that would keep a deadline */
};

/* Why a guest was stopped, or told to stop. */
enum cloche_reason {
    CLOCHE_NO_REASON = 0,
    CLOCHE_DEADLINE = 1,
    CLOCHE_CANCELLED = 2,
    CLOCHE_EXITED = 3,
    CLOCHE_REENTERED = 4,
    CLOCHE_ABANDONED = 5,
    CLOCHE_BUDGET = 6,
};

/* How a guest is stopped. */
enum cloche_metering {
    CLOCHE_GUARD = 0,
    CLOCHE_EPOCH = 1,
    CLOCHE_FUEL = 2,
    CLOCHE_UNMETERED = 3,
};

/* The exports that a guest is entered by. */
enum cloche_function {
    CLOCHE_NODE_CALL = 0,
    CLOCHE_NODE_ALLOC = 1,
    CLOCHE_NODE_FREE = 2,
    CLOCHE_NODE_CHECK = 3,
};

/* What a guest is doing. */
enum cloche_state {
    CLOCHE_FREE = 0,
    CLOCHE_AT_REST = 1,
    CLOCHE_RUNNING = 2,
    CLOCHE_WAITING = 3,
    CLOCHE_BROKEN = 4,
    CLOCHE_BETWEEN = 5, /* a call is about to begin, or the guest is being freed */
};

/* What the guest's clocks show. */
enum cloche_clock_mode {
    CLOCK_MODE_REAL = 0, /* the host's time */
    CLOCK_MODE_MOVING = 1, /* a time of the guest's own, which advances by sleeping and by being read */
    CLOCK_MODE_STANDING = 2, /* a time that stands still */
};

/* What the core does with the journal of a guest. */
enum cloche_journal_mode {
    JOURNAL_MODE_OFF = 0,
    JOURNAL_MODE_RECORD = 1, /* notes what the imports answer */
    JOURNAL_MODE_REPLAY = 2, /* the imports answer what the journal has */
};

/* Which import has answered, in a journal. */
enum cloche_answered {
    ANSWERED_REALTIME = 0,
    ANSWERED_MONOTONIC = 1,
    ANSWERED_CPU_TIME = 2,
    ANSWERED_RANDOM = 3,
    ANSWERED_SLEEP = 4,
};

/* What an entry of a recorded guest's tape is. */
enum cloche_taped {
    TAPED_SENT = 6, /* a frame that went in: a message, or the answer to a request */
    TAPED_CAME = 7, /* a frame that came out: a request, or the reply */
    TAPED_ANSWERED = 8, /* a request was answered by a code: one byte, and one of enum cloche_reason */
    TAPED_ENDED = 9, /* the call has ended: twice four bytes: its part of the journal; enum cloche_reason; whether it can be replayed */
};

/* The kinds of what a sampler has found. */
enum cloche_sampled {
    CLOCHE_SAMPLED_FUNCTION = 0,
    CLOCHE_SAMPLED_PLACE = 1,
    CLOCHE_SAMPLED_NODE = 2,
    CLOCHE_SAMPLED_LANE = 3,
};

/* What Python and the core share of a guest; times are nanoseconds. */
enum cloche_word {
    /* set by Python, between calls */
    WORD_REQUEST_AT = 0, /* the guest's request buffer, of REQUEST_BUFFER_BYTES */
    WORD_MAX_NODES = 1, /* third argument of node_call */
    WORD_MAX_DEPTH = 2, /* fourth argument of node_call */
    WORD_DEADLINE_NS = 3, /* how long a call may take until the guest is told to stop; 0: without end */
    WORD_GRACE_NS = 4, /* how much longer until it is stopped */
    WORD_POLL_NS = 5, /* how often Python wants to look at its signals meanwhile; 0: never */
    WORD_FUEL = 6, /* instructions for the next call, under CLOCHE_FUEL */
    WORD_CLOCK_MODE = 7, /* enum cloche_clock_mode */
    WORD_CLOCK_START = 8,
    WORD_CLOCK_SLEPT = 9,
    WORD_CLOCK_STEPPED = 10,
    WORD_CLOCK_STEP = 11,
    WORD_SEEDED = 12, /* whether random words come from the key below */
    WORD_DRAWN = 13, /* random words drawn so far */
    WORD_KEY = 14, /* 4 words: 32 bytes of key */
    WORD_GRANTED = 18, /* whether the import `call` asks Python; 0: it answers that nothing is granted */
    WORD_ACCOUNT = 19, /* address of the struct cloche_account that pays for the processor time of calls; 0: none */
    WORD_ITEMS = 20, /* items of the batch in the next message, each of which has a deadline of its own; 0: it is no batch */
    WORD_JOURNAL_MODE = 21, /* enum cloche_journal_mode */
    WORD_JOURNAL = 22, /* address of the journal, which Python owns */
    WORD_JOURNAL_BYTES = 23, /* its size */
    /* set by the core */
    WORD_STATE = 24, /* enum cloche_state */
    WORD_ADDRESS = 25, /* of a request of the guest */
    WORD_LENGTH = 26,
    WORD_RESULT = 27, /* what the export returned */
    WORD_STOPPED = 28, /* enum cloche_reason: why it was stopped; 0: the trap was its own */
    WORD_TOLD = 29, /* enum cloche_reason: what the guest was told in this call (DEADLINE or CANCELLED); 0: nothing */
    WORD_TRAP_CODE = 30, /* the engine's number of the trap; -1: none */
    WORD_EXIT_CODE = 31,
    WORD_RECORDS = 32, /* whether the log ring has records, or has lost some */
    WORD_MEMORY_BYTES = 33, /* size of linear memory */
    WORD_TOOK_NS = 34, /* how long the last call took, waiting for Python included */
    WORD_BURNED = 35, /* fuel of the last call */
    WORD_TELL_AT = 36, /* CLOCK_MONOTONIC at which the call under way is told to stop; 0: never */
    WORD_STOP_AT = 37, /* CLOCK_MONOTONIC at which it is stopped; 0: never */
    WORD_BASE = 38, /* address of linear memory in this process; it never changes */
    WORD_RING = 39, /* addresses in linear memory: of the log ring, */
    WORD_NOTICE = 40, /* of the notice words, */
    WORD_LAYOUT = 41, /* of the layout table */
    WORD_SERIAL = 42, /* number of the call under way, or of the last one: for cloche_cancel */
    WORD_SPENT_NS = 43, /* processor time of the last call, as its account has paid it; 0 without an account */
    WORD_JOURNAL_AT = 44, /* bytes of the journal that are written, or that have been taken; Python sets it to 0 */
    WORD_JOURNAL_LOST = 45, /* answers for which it had no room, or which it did not have; likewise */
    WORD_JOURNAL_TOLD = 46, /* whether a sleep that it has was cut short, so that the guest was told there; likewise */
    WORD_TAPE = 48, /* address of the tape, which Python owns, as the journal; set by Python, between calls */
    WORD_TAPE_BYTES = 49, /* its size; likewise */
    WORD_TAPE_AT = 50, /* bytes that are written; Python sets it to 0 */
    WORD_TAPE_WANTS = 51, /* 1: Python has to empty it before the next call; 2: a call on it cannot be replayed; likewise */
    WORD_TAPE_CALLS = 52, /* calls that have ended on it; likewise */
    WORD_TAPE_MOST = 53, /* calls after which Python wants to empty it; set by Python, between calls */
    WORD_SAMPLER = 54, /* the sampler that looks at the guest: its number << 16 | a lane; 0: none; set by Python at any time */
};

#define CLOCHE_WORDS 64
#define NOTICE_NONE 0
#define NOTICE_DEADLINE 1
#define NOTICE_CANCEL 2
#define NOTICE_POLL 3
#define ANSWER_NONE 0
#define ANSWER_INTERRUPTED 2
#define CLOCK_ID_REALTIME 0
#define CLOCK_ID_MONOTONIC 1
#define STOP_PAGE 0
#define STOP_PAGE_BYTES 65536
#define WASI_EINTR 27
#define NOTICE_BYTES 16
#define NOTICE_BEGUN 2
#define LAYOUT_BREAKER 0
#define LAYOUT_BREAKER_BIT 1
#define LAYOUT_CURRENT_FRAME 2
#define LAYOUT_FRAME_EXECUTABLE 3
#define LAYOUT_FRAME_PREVIOUS 4
#define LAYOUT_FRAME_INSTR_PTR 5
#define LAYOUT_FRAME_OWNER 6
#define LAYOUT_FRAME_OWNED_BY_CSTACK 7
#define LAYOUT_OBJECT_TYPE 8
#define LAYOUT_OBJECT_SIZE 9
#define LAYOUT_CODE_TYPE 10
#define LAYOUT_CODE_FILENAME 11
#define LAYOUT_CODE_NAME 12
#define LAYOUT_CODE_QUALNAME 13
#define LAYOUT_CODE_FIRSTLINENO 14
#define LAYOUT_CODE_LINETABLE 15
#define LAYOUT_CODE_INSTRUCTIONS 16
#define LAYOUT_BYTES_TYPE 17
#define LAYOUT_BYTES_DATA 18
#define LAYOUT_TEXT_TYPE 19
#define LAYOUT_TEXT_LENGTH 20
#define LAYOUT_TEXT_STATE 21
#define LAYOUT_TEXT_KIND_SHIFT 22
#define LAYOUT_TEXT_KIND_MASK 23
#define LAYOUT_TEXT_COMPACT_BIT 24
#define LAYOUT_TEXT_ASCII_BIT 25
#define LAYOUT_TEXT_ASCII_DATA 26
#define LAYOUT_TEXT_DATA 27
#define LAYOUT_COUNT 28

#endif
