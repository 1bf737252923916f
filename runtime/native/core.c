/* The functions of the contract (cloche.h): guests are made, entered, left in the middle, freed. */
#define _GNU_SOURCE
#include "core.h"
#include "handlers.h"
#include "signals.h"
#include <stdlib.h>
#include <string.h>

CLOCHE_EXPORT uint64_t cloche_count_stacks(void) { return stack_count(); }

CLOCHE_EXPORT int cloche_start(const struct cloche_engine *functions, size_t bytes) {
    static int started;
    if (bytes != sizeof engine) return CLOCHE_ENGINE_FAILED;
    void *const *each = (void *const *)functions;
    for (size_t i = 0; i < bytes / sizeof *each; i++)
        if (!each[i]) return CLOCHE_ENGINE_FAILED;
    engine = *functions;
    if (!started) {
        started = guests_follow_forks();
        handlers_take(each[0]);
    }
    return started ? CLOCHE_DONE : CLOCHE_NO_MEMORY;
}

CLOCHE_EXPORT size_t cloche_message(uint64_t handle, char *to, size_t room) {
    struct guest *guest = guest_find(handle);
    if (!guest) return 0;
    size_t length = (size_t)guest->message_length < room ? (size_t)guest->message_length : room;
    memcpy(to, guest->message, length);
    return length;
}

/* ---- into the guest, and back */
static _Thread_local struct guest *waiting; /* guests that wait on this thread, the last one first */

static void *on_epoch(void *context, void *data, uint64_t *delta, uint8_t *kind) {
    (void)context;
    struct guest *guest = data;
    if (LOAD(guest->stop)) return engine.error_new("stopped");
    *delta = 1; /* another guest's deadline has come */
    *kind = 0;
    return NULL;
}

static size_t stack_bytes(const struct cloche_image *image) {
    return (size_t)image->wasm_stack_bytes + ((size_t)512 << 10); /* for handlers of signals, and for the engine's own functions */
}

static int start_export(struct guest *guest, int function, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    guest->function = function;
    guest->arguments[0] = a, guest->arguments[1] = b, guest->arguments[2] = c, guest->arguments[3] = d;
    guest->inside_ask =
        function != CLOCHE_NODE_CALL; /* its callers end the call when it returns: it must not be left in the middle */
    return guest_cross(guest, 1);
}

/* Run an export as a part of the call in which the guest waits. */
static int nested_export(struct guest *guest, int function, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    guest->command = RUN_EXPORT;
    int outer = guest->function;
    guest->function = function;
    guest->arguments[0] = a, guest->arguments[1] = b, guest->arguments[2] = c, guest->arguments[3] = d;
    int status = guest_cross(guest, 0);
    guest->function = outer;
    return status;
}

/* The engine ends the process when it gets no memory for some small thing. So ask for more than those take first, where a
   refusal can be reported; the allocator keeps what is given back. */
static int has_room(void) {
    enum { ROOM_BYTES = 96 * 1024 };
    void *volatile room = malloc(ROOM_BYTES);
    free(room);
    return room != NULL;
}

/* What a thread needs besides a stack before it first enters the engine. */
static int thread_is_ready(void) {
    static _Thread_local int ready;
    return ready || (ready = signals_stack() && has_room());
}

/* Take a guest at rest for a call of this thread. The deadline counts from here. */
static int begin(uint64_t handle, int hears, struct guest **found) {
    struct guest *guest = *found = guest_find(handle);
    if (!guest) return CLOCHE_NO_GUEST;
    uint64_t *words = guest->words;
    int64_t now = clock_now();
    int status = guest_take(guest, handle, CLOCHE_AT_REST);
    if (status) return status;
    guest->fiber.stack = stack_take(stack_bytes(guest->image));
    if (guest->fiber.stack && !thread_is_ready()) { /* after the stack was taken, which may have used up the memory */
        stack_give_back(guest->fiber.stack, 0);
        guest->fiber.stack = NULL;
    }
    if (!guest->fiber.stack) {
        STORE(words[WORD_STATE], CLOCHE_AT_REST);
        return CLOCHE_NO_MEMORY;
    }
    guest->began = now;
    guest->thread = pthread_self();
    guest->trapped = guest->message_length = 0;
    guest->command = GO_ON;
    guest->block = 0;
    guest->hears = hears;
    STORE(guest->stop, 0);
    STORE(words[WORD_TOLD], 0);
    words[WORD_STOPPED] = words[WORD_EXIT_CODE] = 0;
    words[WORD_TRAP_CODE] = UINT64_MAX;
    guest->noticed = 0;
    guest->items_begun = 1; /* the first one is under the deadline that is armed here */
    if (words[WORD_ITEMS]) memset(guest->base + words[WORD_NOTICE] + 4 * NOTICE_BEGUN, 0, sizeof(uint32_t));
    STORE(guest->cancelled, 0);
    STORE(guest->beginning, words[WORD_SERIAL] + 1); /* before the number can be known */
    STORE(words[WORD_SERIAL], words[WORD_SERIAL] + 1);
    uint64_t metering = guest->image->metering;
    if (metering == CLOCHE_EPOCH) engine.set_epoch_deadline(guest->context, 1);
    if (metering == CLOCHE_FUEL) {
        void *error = engine.set_fuel(guest->context, words[WORD_FUEL]);
        if (error) engine.error_delete(error);
    }
    int64_t deadline = span_of(words[WORD_DEADLINE_NS]), grace = span_of(words[WORD_GRACE_NS]), tell_at = 0, stop_at = 0;
    int can_hear = hears && guest->image->notice_bit_at;
    if (deadline) {
        stop_at = later(later(now, deadline), grace);
        if (can_hear && grace) tell_at = later(now, deadline);
    }
    words[WORD_TELL_AT] = (uint64_t)tell_at, words[WORD_STOP_AT] = (uint64_t)stop_at;
    int64_t poll_ns = can_hear && metering != CLOCHE_FUEL
                          ? span_of(words[WORD_POLL_NS])
                          : 0; /* looking at signals would burn fuel, and the same calls must burn the same */
    handlers_look();
    account_begin(guest);
    if (!timer_arm(guest, tell_at, stop_at, poll_ns)) { /* nothing would stop the guest; the next call tries again */
        timer_disarm(guest);
        account_settle(guest, waiting);
        stack_give_back(guest->fiber.stack, 0);
        STORE(guest->beginning, 0);
        STORE(words[WORD_STATE], CLOCHE_AT_REST);
        return CLOCHE_NO_THREAD;
    }
    STORE(words[WORD_STATE], CLOCHE_RUNNING); /* last: what is armed above would overwrite a cancel that came before */
    if (LOAD(guest->early) == words[WORD_SERIAL]) timer_cancel(guest, handle, words[WORD_SERIAL], CLOCHE_CANCELLED, 0);
    STORE(guest->beginning, 0);
    return CLOCHE_DONE;
}

static int ring_has_records(const struct guest *guest) {
    const uint8_t *ring = guest->base + guest->words[WORD_RING];
    uint32_t used, dropped;
    memcpy(&used, ring + guest->image->ring_used_at, sizeof used);
    memcpy(&dropped, ring + guest->image->ring_dropped_at, sizeof dropped);
    return used || dropped;
}

static int is_inside(const struct guest *guest, uint64_t address, uint64_t length) {
    uint64_t size = engine.memory_size(guest->context, &guest->memory.of);
    return address && address <= size && length <= size - address;
}

/* Whether the host may write there. Not to the stop page: once it is locked, writing would fault here. */
static int is_writable(const struct guest *guest, uint64_t address, uint64_t length) {
    return address >= STOP_PAGE + STOP_PAGE_BYTES && is_inside(guest, address, length);
}

const uint8_t *guest_bytes(const struct guest *guest, uint64_t address, uint64_t length) {
    return is_writable(guest, address, length) ? guest->base + address : NULL;
}

/* A call has ended: note its reply, if it has one. */
static void tape_reply(struct guest *guest, int status) {
    uint64_t packed = guest->words[WORD_RESULT];
    const uint8_t *bytes = status || guest->trapped ? NULL : guest_bytes(guest, packed >> 32, packed & UINT32_MAX);
    if (bytes) tape_add(guest, TAPED_CAME, bytes, packed & UINT32_MAX);
    tape_end(guest);
}

/* End the call: disarm, and leave the guest at rest, or broken. */
static int end(struct guest *guest, int status) {
    uint64_t *words = guest->words;
    STORE(words[WORD_STATE], CLOCHE_BETWEEN); /* first: from here on a cancel does nothing, and no other thread frees the guest */
    if (!timer_disarm(guest)) guest->trapped = 1, status = CLOCHE_TRAPPED;
    account_settle(guest, waiting);
    if (guest->trapped) words[WORD_STOPPED] = LOAD(guest->stop);
    if (guest->noticed) timer_clear_notice(guest);
    if (guest->taped) tape_reply(guest, status);
    words[WORD_MEMORY_BYTES] = engine.memory_size(guest->context, &guest->memory.of);
    words[WORD_RECORDS] = (uint64_t)ring_has_records(guest);
    words[WORD_TELL_AT] = words[WORD_STOP_AT] = 0;
    if (guest->image->metering == CLOCHE_FUEL) {
        uint64_t left = 0;
        void *error = engine.get_fuel(guest->context, &left);
        if (error) engine.error_delete(error);
        words[WORD_BURNED] = words[WORD_FUEL] - left;
    }
    stack_give_back(guest->fiber.stack, guest->trapped);
    words[WORD_TOOK_NS] = (uint64_t)(clock_now() - guest->began);
    STORE(words[WORD_STATE],
          guest->trapped ? CLOCHE_BROKEN : CLOCHE_AT_REST); /* last: from here on another thread may take the guest */
    return status;
}

/* After the guest's stack has been left: the guest waits, or its call has ended. */
static int left(struct guest *guest, int status) {
    if (!guest->fiber.done) {
        if (LOAD(guest->words[WORD_STATE]) != CLOCHE_WAITING) {
            guest->below = waiting;
            waiting = guest;
            account_pause(guest); /* it shall not be stopped for what others use while it waits */
            guest->words[WORD_MEMORY_BYTES] = engine.memory_size(guest->context, &guest->memory.of);
            STORE(guest->words[WORD_STATE], CLOCHE_WAITING);
        }
        return status;
    }
    if (status == CLOCHE_DONE && guest->block) {
        uint64_t result = guest->words[WORD_RESULT];
        uint32_t block = guest->block;
        guest->block = 0;
        status = start_export(guest, CLOCHE_NODE_FREE, block, 0, 0, 0);
        guest->words[WORD_RESULT] = result;
    }
    return end(guest, status);
}

/* Find a guest that waits on this thread, and is the last one that began to. */
static int waits(uint64_t handle, struct guest **found) {
    struct guest *guest = *found = guest_find(handle);
    if (!guest) return CLOCHE_NO_GUEST;
    if (LOAD(guest->forked)) return CLOCHE_OTHER_PROCESS;
    if (LOAD(guest->words[WORD_STATE]) != CLOCHE_WAITING || waiting != guest) return CLOCHE_BUSY;
    account_resume(guest);
    if (!timer_arm_again(guest)) set_stop(guest, CLOCHE_DEADLINE); /* as if the deadline had passed: no thread would see to it */
    return CLOCHE_DONE;
}

static int go_on(struct guest *guest, int command) {
    guest->command = command;
    waiting = guest->below;
    STORE(guest->words[WORD_STATE], CLOCHE_RUNNING);
    return left(guest, guest_cross(guest, 0));
}

static int unwind(struct guest *guest) {
    if (!guest->trapped) set_stop(guest, CLOCHE_ABANDONED);
    guest->trapped = 1; /* also if it returns instead of trapping */
    do go_on(guest, UNWIND);
    while (!guest->fiber.done);
    return CLOCHE_TRAPPED;
}

CLOCHE_EXPORT int cloche_call(uint64_t handle, const uint8_t *request, size_t length) {
    struct guest *guest;
    int status = begin(handle, 1, &guest);
    if (status) return status;
    uint64_t *words = guest->words, address = words[WORD_REQUEST_AT];
    if (tape_is_on(guest)) tape_begin(guest, request, length);
    if (length > guest->image->request_buffer_bytes) {
        if (length > UINT32_MAX) return end(guest, CLOCHE_REFUSED);
        status = start_export(guest, CLOCHE_NODE_ALLOC, (uint32_t)length, 0, 0, 0);
        if (status) return end(guest, status);
        address = words[WORD_RESULT];
        if (!address) return end(guest, CLOCHE_NO_ROOM);
        guest->block = (uint32_t)address;
    }
    if (!is_writable(guest, address, length)) return end(guest, CLOCHE_REFUSED);
    if (length) memcpy(guest->base + address, request, length);
    status = start_export(guest, CLOCHE_NODE_CALL, (uint32_t)address, (uint32_t)length, (uint32_t)words[WORD_MAX_NODES],
                          (uint32_t)words[WORD_MAX_DEPTH]);
    return left(guest, status);
}

CLOCHE_EXPORT int cloche_enter(uint64_t handle, int function, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    struct guest *guest;
    if (function < CLOCHE_NODE_ALLOC || function > CLOCHE_NODE_CHECK) return CLOCHE_REFUSED;
    int status = waits(handle, &guest);
    if (!status) {
        if (LOAD(guest->stop)) return unwind(guest);
        status = nested_export(guest, function, a, b, c, d);
        if (status == CLOCHE_DONE) guest->words[WORD_MEMORY_BYTES] = engine.memory_size(guest->context, &guest->memory.of);
        return status == CLOCHE_TRAPPED ? unwind(guest) : status;
    }
    status = begin(handle, 0, &guest);
    return status ? status : end(guest, start_export(guest, function, a, b, c, d));
}

CLOCHE_EXPORT int cloche_answer(uint64_t handle, const uint8_t *bytes, size_t length, uint64_t packed) {
    struct guest *guest;
    int status = waits(handle, &guest);
    if (status) return status;
    if (LOAD(guest->stop)) return unwind(guest);
    if (guest->taped && bytes) tape_add(guest, TAPED_SENT, bytes, length);
    if (guest->taped && !bytes) tape_answered(guest, packed);
    if (bytes) {
        if (length > UINT32_MAX) return CLOCHE_REFUSED;
        status = nested_export(guest, CLOCHE_NODE_ALLOC, (uint32_t)length, 0, 0, 0);
        if (status) return unwind(guest);
        uint64_t address = guest->words[WORD_RESULT];
        if (!address) return CLOCHE_NO_ROOM;
        if (!is_writable(guest, address, length)) return CLOCHE_REFUSED;
        if (length) memcpy(guest->base + address, bytes, length);
        packed = address << 32 | length;
    }
    guest->answer = packed;
    return go_on(guest, GO_ON);
}

CLOCHE_EXPORT int cloche_go_on(uint64_t handle) {
    struct guest *guest;
    int status = waits(handle, &guest);
    return status ? status : go_on(guest, GO_ON);
}

CLOCHE_EXPORT int cloche_end_call(uint64_t handle) {
    enum { MOST_NS = 1000 * 1000 * 1000 };
    struct guest *guest;
    int status = waits(handle, &guest);
    if (status) return status;
    uint64_t grace = guest->words[WORD_GRACE_NS];
    if (grace > MOST_NS) guest->words[WORD_GRACE_NS] = MOST_NS;
    timer_cancel(guest, handle, 0, CLOCHE_CANCELLED, 0);
    guest->words[WORD_GRACE_NS] = grace;
    do {
        guest->answer = ANSWER_INTERRUPTED;
        status = go_on(guest, GO_ON);
    } while (status == CLOCHE_ASKS || status == CLOCHE_POLLS);
    return status;
}

CLOCHE_EXPORT int cloche_abandon(uint64_t handle) {
    struct guest *guest;
    int status = waits(handle, &guest);
    return status ? status : unwind(guest);
}

CLOCHE_EXPORT int cloche_cancel(uint64_t handle, uint64_t serial, int reason, int now) {
    if (reason != CLOCHE_CANCELLED && reason != CLOCHE_DEADLINE) return CLOCHE_REFUSED;
    struct guest *guest = guest_find(handle);
    if (!guest) return CLOCHE_NO_GUEST;
    return LOAD(guest->forked) ? CLOCHE_OTHER_PROCESS : timer_cancel(guest, handle, serial, (uint64_t)reason, now);
}

/* ---- made and freed */
struct birth {
    struct fiber fiber;
    struct guest *guest;
    uint64_t memory_limit;
    int status;
};

static int wanted(struct guest *guest, const struct engine_instance *instance, const char *name, uint8_t kind,
                  struct engine_extern *item) {
    memset(item, 0, sizeof *item);
    return engine.export_get(guest->context, instance, name, strlen(name), item) && item->kind == kind;
}

static int number_of(struct guest *guest, const struct engine_instance *instance, const char *name, uint64_t *number) {
    struct engine_extern item;
    struct engine_val value;
    if (!wanted(guest, instance, name, ENGINE_GLOBAL, &item)) return 0;
    engine.global_get(guest->context, &item.of, &value);
    *number = (uint32_t)value.of.i32;
    return 1;
}

static int born(struct guest *guest, uint64_t memory_limit) {
    static const char *const names[] = {"node_call", "node_alloc", "node_free", "node_check"};
    struct cloche_image *image = guest->image;
    struct engine_instance instance;
    struct engine_val value;
    void *trap = NULL;
    guest->store = engine.store_new(image->engine, guest, NULL);
    if (!guest->store) return CLOCHE_NO_MEMORY;
    guest->context = engine.store_context(guest->store);
    engine.store_limiter(guest->store, (int64_t)memory_limit, -1, -1, -1, -1);
    if (image->metering == CLOCHE_EPOCH) {
        engine.store_epoch_callback(guest->store, on_epoch, guest, NULL);
        engine.set_epoch_deadline(guest->context, 1);
    }
    if (image->metering == CLOCHE_FUEL) {
        void *error = engine.set_fuel(guest->context, INT64_MAX);
        if (error) engine.error_delete(error);
    }
    void *error = engine.instantiate(image->instance_pre, guest->context, &instance, &trap);
    if (error) return keep_error(guest, error), CLOCHE_ENGINE_FAILED;
    if (trap) return keep_trap(guest, trap), CLOCHE_ENGINE_FAILED;
    for (int i = 0; i < 4; i++) {
        struct engine_extern item;
        if (!wanted(guest, &instance, names[i], ENGINE_FUNC, &item)) return CLOCHE_ENGINE_FAILED;
        guest->functions[i] = item.of.func;
    }
    if (!wanted(guest, &instance, "memory", ENGINE_MEMORY, &guest->memory)) return CLOCHE_ENGINE_FAILED;
    if (!wanted(guest, &instance, "__stack_pointer", ENGINE_GLOBAL, &guest->stack_pointer)) return CLOCHE_ENGINE_FAILED;
    uint64_t *words = guest->words;
    if (!number_of(guest, &instance, "cloche_ring", &words[WORD_RING]) ||
        !number_of(guest, &instance, "cloche_notice", &words[WORD_NOTICE]) ||
        !number_of(guest, &instance, "cloche_layout", &words[WORD_LAYOUT]))
        return CLOCHE_ENGINE_FAILED;
    engine.global_get(guest->context, &guest->stack_pointer.of, &value);
    guest->stack_top = value.of.i32;
    guest->base = engine.memory_data(guest->context, &guest->memory.of);
    words[WORD_BASE] = (uint64_t)(uintptr_t)guest->base;
    words[WORD_MEMORY_BYTES] = engine.memory_size(guest->context, &guest->memory.of);
    if (!is_writable(guest, words[WORD_RING], image->ring_bytes) || !is_writable(guest, words[WORD_NOTICE], NOTICE_BYTES) ||
        words[WORD_NOTICE] % 4)
        return CLOCHE_REFUSED;
    return CLOCHE_DONE;
}

static void birth(void *argument) {
    struct birth *birth = argument;
    birth->status = born(birth->guest, birth->memory_limit);
}

static void death(void *argument) {
    struct birth *birth = argument;
    if (birth->guest->store) engine.store_delete(birth->guest->store);
    birth->guest->store = NULL;
}

/* Run on a stack of a guest: the engine's own code needs more than the stack of a small thread. */
static int on_a_stack(struct birth *birth, void (*work)(void *)) {
    birth->fiber.stack = stack_take(stack_bytes(birth->guest->image));
    if (!birth->fiber.stack) return 0;
    fiber_begin(&birth->fiber, work, birth);
    stack_give_back(birth->fiber.stack, 0);
    return 1;
}

CLOCHE_EXPORT int cloche_new(struct cloche_image *image, uint64_t memory_limit, uint64_t *handle, uint64_t *words) {
    handlers_redirect();
    struct guest *guest = table_take();
    if (!guest) return CLOCHE_NO_MEMORY;
    struct birth job = {.guest = guest, .memory_limit = memory_limit};
    guest->image = image;
    *words = (uint64_t)(uintptr_t)guest->words;
    STORE(*handle, guest->handle);
    if (!thread_is_ready() || !has_room() || !on_a_stack(&job, birth)) job.status = CLOCHE_NO_MEMORY;
    if (job.status) { /* the guest stays until cloche_free, so that cloche_message can say why */
        STORE(guest->words[WORD_STATE], CLOCHE_BROKEN);
        return job.status;
    }
    timer_link(guest);
    STORE(guest->words[WORD_STATE], CLOCHE_AT_REST);
    return CLOCHE_DONE;
}

CLOCHE_EXPORT int cloche_free(uint64_t handle) {
    struct guest *guest = guest_find(handle);
    if (!guest) return CLOCHE_NO_GUEST;
    uint64_t state = LOAD(guest->words[WORD_STATE]);
    if (LOAD(guest->forked)) return CLOCHE_OTHER_PROCESS;
    if (state == CLOCHE_WAITING) {
        if (waiting != guest) return CLOCHE_BUSY;
        unwind(guest);
        state = CLOCHE_BROKEN;
    }
    if (state != CLOCHE_AT_REST && state != CLOCHE_BROKEN) return CLOCHE_BUSY;
    int status = guest_take(guest, handle, state);
    if (status) return status; /* another thread was faster */
    timer_unlink(guest);
    struct birth job = {.guest = guest};
    if (!on_a_stack(&job, death)) death(&job); /* no address space is left: use this thread's stack */
    table_give_back(guest);
    return CLOCHE_DONE;
}

/* ---- memory */
CLOCHE_EXPORT int cloche_limit_memory(uint64_t handle, uint64_t bytes) {
    struct guest *guest = guest_find(handle);
    if (!guest) return CLOCHE_NO_GUEST;
    int status = guest_take(guest, handle, CLOCHE_AT_REST);
    if (status) return status;
    engine.store_limiter(guest->store, (int64_t)bytes, -1, -1, -1, -1);
    STORE(guest->words[WORD_STATE], CLOCHE_AT_REST);
    return CLOCHE_DONE;
}

CLOCHE_EXPORT int cloche_grow(uint64_t handle, uint64_t bytes) {
    struct guest *guest = guest_find(handle);
    if (!guest) return CLOCHE_NO_GUEST;
    int status = guest_take(guest, handle, CLOCHE_AT_REST);
    if (status) return status;
    uint64_t size = engine.memory_size(guest->context, &guest->memory.of), before;
    if (bytes > size) {
        void *error = engine.memory_grow(guest->context, &guest->memory.of, ((bytes - size - 1) >> 16) + 1, &before);
        if (error) keep_error(guest, error), status = CLOCHE_ENGINE_FAILED;
    }
    guest->words[WORD_MEMORY_BYTES] = engine.memory_size(guest->context, &guest->memory.of);
    STORE(guest->words[WORD_STATE], CLOCHE_AT_REST);
    return status;
}

CLOCHE_EXPORT int cloche_is_clean(uint64_t handle) {
    struct guest *guest = guest_find(handle);
    struct engine_val value;
    if (!guest || guest_take(guest, handle, CLOCHE_AT_REST)) return 0;
    engine.global_get(guest->context, &guest->stack_pointer.of, &value);
    int clean = value.of.i32 == guest->stack_top;
    STORE(guest->words[WORD_STATE], CLOCHE_AT_REST);
    return clean;
}

CLOCHE_EXPORT int cloche_read(uint64_t handle, uint64_t address, void *to, size_t length) {
    struct guest *guest = guest_find(handle);
    if (!guest) return CLOCHE_NO_GUEST;
    int status = CLOCHE_NO_GUEST;
    pthread_mutex_lock(&timer_lock); /* no other thread frees or stops the guest meanwhile */
    if (guest->linked && LOAD(guest->handle) == handle) {
        int hidden = guest->locked && address < STOP_PAGE + STOP_PAGE_BYTES;
        status = !hidden && is_inside(guest, address, length) ? CLOCHE_DONE : CLOCHE_REFUSED;
        if (status == CLOCHE_DONE) memcpy(to, guest->base + address, length);
    }
    pthread_mutex_unlock(&timer_lock);
    return status;
}

CLOCHE_EXPORT uint64_t cloche_checksum(const void *bytes, size_t length) {
    const uint64_t prime = 0x9e3779b97f4a7c15;
    const uint8_t *p = bytes;
    uint64_t lanes[4] = {1, 2, 3, 4}, words[4], sum = length;
    for (; length >= sizeof words; p += sizeof words, length -= sizeof words) {
        memcpy(words, p, sizeof words);
        for (int i = 0; i < 4; i++) lanes[i] = (lanes[i] ^ words[i]) * prime, lanes[i] ^= lanes[i] >> 29;
    }
    for (; length; p++, length--) sum = (sum ^ *p) * prime;
    for (int i = 0; i < 4; i++) sum = ((sum ^ lanes[i]) * prime) ^ sum >> 31;
    return sum;
}
