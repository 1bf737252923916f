/* The fake engine. A guest's code is the text of its request:

       a   ask: call the import `call` with the rest of the request; the answer is the result
       p   poll                  s<n>  sleep n ns; what it returns is the result
       l   loop until stopped    h     loop until told something; the notice is the result
       n<n>  loop n times        i<n>  the result is n
       u   trap (unreachable)    o     trap (a fault beyond linear memory)
       x<n>  exit with n         g     grow by one page
       r   draw a word           c<n>  read clock n
       d   let the stack pointer where it is: an unclean end
       w   write a record to the log ring
       R   recurse until the stack is used up, as far as the engine's bound allows

   As in wasmtime, a trap unwinds the guest's stack to the engine's own frame; a handler of SIGSEGV has the thread go on there. */
#define _GNU_SOURCE
#include "fake.h"
#include "handlers.h"
#include "redirect.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

struct fake_program program;
struct fake_hooks hooks;
int fail_mmap, fail_mprotect, fail_thread, no_redirection;
const struct sigaction *fake_engine_before;
static int64_t live;
static void counted(int64_t change) { __atomic_add_fetch(&live, change, __ATOMIC_SEQ_CST); }
int64_t fake_live(void) { return LOAD(live); }

/* ---- the system, as far as it can fail (the linker puts these in place of the functions) */
static int fails(int *left) {
    int have = LOAD(*left);
    while (have > 0)
        if (__atomic_compare_exchange_n(left, &have, have - 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) return 1;
    return 0;
}
void *__real_mmap(void *, size_t, int, int, int, off_t);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int file, off_t offset) {
    return fails(&fail_mmap) ? MAP_FAILED : __real_mmap(at, size, protection, flags, file, offset);
}
int __real_mprotect(void *, size_t, int);
int __wrap_mprotect(void *at, size_t size, int protection) {
    return fails(&fail_mprotect) ? -1 : __real_mprotect(at, size, protection);
}
int __real_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*work)(void *), void *argument) {
    return fails(&fail_thread) ? 11 : __real_pthread_create(thread, attributes, work, argument);
}

int __real_pthread_cond_broadcast(pthread_cond_t *);
int __wrap_pthread_cond_broadcast(pthread_cond_t *condition) {
    if (hooks.broadcast) hooks.broadcast();
    return __real_pthread_cond_broadcast(condition);
}

/* Here the engine is a part of this program, as the core is, so its own calls are not redirected: they are made to the right
   function. */
int __real_redirect_calls(const struct redirection *, int, const void *);
int __wrap_redirect_calls(const struct redirection *all, int count, const void *engine) {
    return no_redirection ? 0 : (__real_redirect_calls(all, count, engine), 1);
}

/* ---- traps, errors, texts */
struct text {
    int code;
    char message[64];
};

static void *text_new(int code, const char *message, size_t length) {
    struct text *text = calloc(1, sizeof *text);
    text->code = code;
    memcpy(text->message, message, length < 63 ? length : 63);
    counted(1);
    return text;
}
static void text_delete(void *text) {
    free(text);
    counted(-1);
}
static void *trap_new(const char *message, size_t length) { return text_new(-1, message, length); }
static void *error_new(const char *message) { return text_new(-1, message, strlen(message)); }
static bool trap_code(const void *trap, uint8_t *code) {
    const struct text *text = trap;
    if (text->code >= 0) *code = (uint8_t)text->code;
    return text->code >= 0;
}
static void copied(const struct text *text, size_t size, struct engine_bytes *to) {
    to->size = size;
    to->data = size ? malloc(size) : NULL;
    if (size) memcpy(to->data, text->message, size);
    counted(1);
}
/* wasmtime ends the messages of traps with a zero, those of errors without */
static void trap_message(const void *trap, struct engine_bytes *to) {
    copied(trap, strlen(((const struct text *)trap)->message) + 1, to);
}
static void error_message(const void *error, struct engine_bytes *to) {
    copied(error, strlen(((const struct text *)error)->message), to);
}
static void bytes_delete(struct engine_bytes *bytes) {
    free(bytes->data);
    counted(-1);
}

/* ---- stores */
struct store {
    struct fake_engine *engine;
    uint8_t *base;
    size_t bytes, limit; /* bytes: read from other threads, too */
    engine_epoch_callback on_epoch;
    void *data;
    uint64_t epoch_deadline, fuel;
    int32_t stack_pointer, heap;
    int metered; /* by epochs */
};

static void *store_new(void *engine, void *data, void (*finalizer)(void *)) {
    (void)finalizer;
    struct store *store = calloc(1, sizeof *store);
    store->engine = engine;
    store->data = data;
    store->limit = SIZE_MAX;
    counted(1);
    return store;
}
static void store_delete(void *it) {
    struct store *store = it;
    if (store->base) munmap(store->base, FAKE_MOST_PAGES * PAGE);
    memset(store, 0xee, sizeof *store);
    free(store);
    counted(-1);
}
static void *store_context(void *store) { return store; }
static void store_limiter(void *store, int64_t memory, int64_t table, int64_t instances, int64_t tables, int64_t memories) {
    (void)table, (void)instances, (void)tables, (void)memories;
    ((struct store *)store)->limit = (size_t)memory;
}
static void store_epoch_callback(void *store, engine_epoch_callback callback, void *data, void (*finalizer)(void *)) {
    (void)finalizer;
    ((struct store *)store)->on_epoch = callback;
    ((struct store *)store)->data = data;
}
static void set_epoch_deadline(void *context, uint64_t ticks) {
    struct store *store = context;
    store->metered = 1;
    if (hooks.set_epoch_deadline) hooks.set_epoch_deadline();
    store->epoch_deadline = LOAD(store->engine->epoch) + ticks;
}
static void *set_fuel(void *context, uint64_t fuel) {
    if (hooks.set_fuel) hooks.set_fuel();
    ((struct store *)context)->fuel = fuel;
    return NULL;
}
static void *get_fuel(void *context, uint64_t *fuel) {
    *fuel = ((struct store *)context)->fuel;
    return NULL;
}
static void increment_epoch(void *engine) { __atomic_add_fetch(&((struct fake_engine *)engine)->epoch, 1, __ATOMIC_SEQ_CST); }

/* ---- entering and leaving */
struct activation {
    sigjmp_buf jump;
    struct activation *outer;
    struct store *store;
    void *volatile trap, *volatile error;
    volatile int fault;
};
static _Thread_local struct activation *innermost;

static _Noreturn void raise_trap(void *trap) {
    innermost->trap = trap;
    siglongjmp(innermost->jump, 1);
}

static _Noreturn void land(void) { siglongjmp(innermost->jump, 1); }

static void go_on_at(ucontext_t *machine, void (*function)(void)) {
#ifdef __x86_64__
    machine->uc_mcontext.gregs[REG_RIP] = (greg_t)function;
    machine->uc_mcontext.gregs[REG_RSP] = ((machine->uc_mcontext.gregs[REG_RSP] - 128) & -16) - 8; /* as after a call */
#else
    machine->uc_mcontext.pc = (uintptr_t)function;
#endif
}

static struct sigaction fake_engine_found; /* the handler that was there before the engine's */
static void on_fault(int number, siginfo_t *info, void *machine) {
    uint8_t *at = info->si_addr;
    struct activation *here = innermost;
    if (here && at >= here->store->base && at < here->store->base + FAKE_MOST_PAGES * PAGE) {
        here->fault = 1;
        go_on_at(machine, land);
        return;
    }
    if (!fake_engine_found.sa_sigaction) engines_sigaction(number, &fake_engine_found, NULL);
    else fake_engine_found.sa_sigaction(number, info, machine);
}

static int64_t import(int which, int64_t a, int64_t b) {
    union engine_raw values[2];
    memset(values, 0, sizeof values);
    values[0].i64 = a;
    values[1].i64 = b;
    struct activation *here = innermost;
    void *trap = cloche_imports[which](NULL, NULL, values, 2);
    CHECK(innermost == here); /* whatever ran on this thread meanwhile has come to its end */
    if (trap) raise_trap(trap);
    return values[0].i64;
}
enum { CLOCK, RANDOM, SLEEP, EXIT, CALL, POLL };

/* What each loop of compiled code does. */
static void turn(struct store *store) {
    (void)*(volatile uint32_t *)store->base;
    if (!store->metered || LOAD(store->engine->epoch) < store->epoch_deadline) return;
    uint64_t delta = 0;
    uint8_t kind = 9;
    void *error = store->on_epoch(store, store->data, &delta, &kind);
    if (hooks.epoch_callback) hooks.epoch_callback();
    if (error) {
        innermost->error = error;
        siglongjmp(innermost->jump, 1);
    }
    store->epoch_deadline = LOAD(store->engine->epoch) + delta;
}

static uint32_t *word_at(struct store *store, uint32_t address) { return (uint32_t *)(store->base + address); }

/* As the interpreter does: the bit first, and then the notice, which it takes. */
static uint32_t hear(struct store *store) {
    if (!(__atomic_load_n(word_at(store, FAKE_BREAKER), __ATOMIC_ACQUIRE) & FAKE_BREAKER_BIT)) return 0;
    __atomic_fetch_and(word_at(store, FAKE_BREAKER), ~(uint32_t)FAKE_BREAKER_BIT, __ATOMIC_ACQ_REL);
    return __atomic_exchange_n(word_at(store, FAKE_NOTICE), 0, __ATOMIC_ACQ_REL);
}

static __attribute__((noinline)) int deep(struct store *store, const volatile char *bottom) {
    volatile char frame[1024];
    frame[0] = 1;
    turn(store);
    if (bottom - frame < (256 << 10)) return deep(store, bottom) + frame[0];
    if (store->bytes) raise_trap(text_new(0, "call stack exhausted", 20)); /* always: the compiler need not know */
    return 0;
}

static void node_call(struct store *store, union engine_raw *values) {
    uint32_t address = (uint32_t)values[0].i32, length = (uint32_t)values[1].i32;
    char script[FAKE_REQUEST_BYTES + 1];
    size_t kept = length < FAKE_REQUEST_BYTES ? length : FAKE_REQUEST_BYTES;
    memcpy(script, store->base + address, kept);
    script[kept] = 0;
    int64_t result = (int64_t)length;
    for (char *at = script; *at;) {
        char what = *at++;
        int64_t number = strtoll(at, &at, 10);
        const char bottom = 0;
        switch (what) {
        case 'a': result = import(CALL, address + (at - script), length - (at - script)); break;
        case 'p': result = import(POLL, 0, 0); break;
        case 's': result = (int32_t)import(SLEEP, number, 0); break;
        case 'l':
            for (;;) turn(store);
        case 'h':
            do turn(store);
            while (!(result = hear(store)));
            break;
        case 'n':
            for (; number; number--) turn(store);
            break;
        case 'i': result = number; break;
        case 'u': raise_trap(text_new(9, "unreachable", 11));
        case 'o': result = store->base[store->bytes]; break;
        case 'x': import(EXIT, number, 0); break;
        case 'g':
            STORE(store->bytes, store->bytes + PAGE);
            __real_mprotect(store->base, store->bytes, PROT_READ | PROT_WRITE);
            break;
        case 'r': result = import(RANDOM, 0, 0); break;
        case 'c': result = import(CLOCK, number, 0); break;
        case 'd': store->stack_pointer -= 16; break;
        case 'w': *word_at(store, FAKE_RING + 4) = 1; break;
        case 'f': store->fuel -= (uint64_t)number; break;
        case 'R': deep(store, &bottom); break;
        default: break;
        }
    }
    values[0].i64 = result;
}

static void node_alloc(struct store *store, union engine_raw *values) {
    uint32_t size = (uint32_t)values[0].i32;
    int32_t given = store->heap;
    turn(store);
    switch (program.alloc) {
    case ALLOC_WORKS: break;
    case ALLOC_IS_FULL: given = 0; break;
    case ALLOC_GIVES_PAGE_0: given = 64; break;
    case ALLOC_GIVES_OUTSIDE: given = (int32_t)store->bytes - 1; break;
    case ALLOC_TRAPS: raise_trap(text_new(9, "unreachable", 11));
    case ALLOC_ASKS: import(CALL, FAKE_REQUEST, 1); break;
    case ALLOC_POLLS: import(POLL, 0, 0), import(SLEEP, 3000000, 0); break;
    case ALLOC_LOOPS:
        for (;;) turn(store);
    }
    if (size > store->bytes - (uint32_t)store->heap) given = 0;
    else if (given == store->heap) store->heap += (int32_t)((size + 15) & ~15u);
    values[0].i32 = given;
}
static void node_free(struct store *store, union engine_raw *values) {
    turn(store);
    if (program.free == FREE_ASKS) import(CALL, FAKE_REQUEST, 1);
    if (program.free == FREE_TRAPS) raise_trap(text_new(9, "unreachable", 11));
    store->heap = values[0].i32;
}
static void node_check(struct store *store, union engine_raw *values) {
    turn(store);
    values[0].i32 = values[0].i32 + values[1].i32 + values[2].i32 + values[3].i32;
}

static void *func_call(void *context, const struct engine_func *func, union engine_raw *values, size_t count, void **trap) {
    struct activation here = {.outer = innermost, .store = context};
    (void)count;
    innermost = &here;
    if (!sigsetjmp(here.jump, 1)) ((void (*)(struct store *, union engine_raw *))func->private_)(context, values);
    innermost = here.outer;
    if (here.fault) here.trap = text_new(1, "out of bounds memory access", 27);
    *trap = here.trap;
    return here.error;
}

/* ---- instances */
static void *instantiate(void *pre, void *context, struct engine_instance *instance, void **trap) {
    struct store *store = context;
    (void)pre;
    instance->store_id = 1;
    if (program.birth == BIRTH_ERROR) return error_new("no address space");
    if (program.birth == BIRTH_TRAP) return *trap = text_new(9, "unreachable", 11), NULL;
    if (program.birth == BIRTH_CALLS_IMPORTS) {
        struct activation here = {.outer = innermost, .store = store};
        innermost = &here;
        if (!sigsetjmp(here.jump, 1)) import(SLEEP, 1, 0);
        innermost = here.outer;
        if (here.trap) return *trap = here.trap, NULL;
    }
    store->base = __real_mmap(NULL, FAKE_MOST_PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(store->base != MAP_FAILED);
    STORE(store->bytes, FAKE_PAGES * PAGE);
    CHECK(!__real_mprotect(store->base, store->bytes, PROT_READ | PROT_WRITE));
    store->stack_pointer = 4096;
    store->heap = FAKE_HEAP;
    return NULL;
}

static bool export_get(void *context, const struct engine_instance *instance, const char *name, size_t length,
                       struct engine_extern *item) {
    static const struct {
        const char *name;
        uint8_t kind;
        void *what;
    } all[] = {{"node_call", ENGINE_FUNC, (void *)node_call},
               {"node_alloc", ENGINE_FUNC, (void *)node_alloc},
               {"node_free", ENGINE_FUNC, (void *)node_free},
               {"node_check", ENGINE_FUNC, (void *)node_check},
               {"memory", ENGINE_MEMORY, NULL},
               {"__stack_pointer", ENGINE_GLOBAL, NULL},
               {"cloche_ring", ENGINE_GLOBAL, (void *)FAKE_RING},
               {"cloche_notice", ENGINE_GLOBAL, (void *)FAKE_NOTICE},
               {"cloche_layout", ENGINE_GLOBAL, (void *)FAKE_LAYOUT}};
    (void)context;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (strlen(all[i].name) != length || memcmp(all[i].name, name, length)) continue;
        if (program.birth == BIRTH_WITHOUT_NOTICE && !strcmp(all[i].name, "cloche_notice")) return false;
        item->kind = all[i].kind;
        item->of.func.store_id = instance->store_id;
        if (item->kind == ENGINE_FUNC) item->of.func.private_ = all[i].what;
        if (item->kind == ENGINE_GLOBAL) item->of.global.private1 = (uint32_t)(uintptr_t)all[i].what;
        return true;
    }
    return false;
}
static uint8_t *memory_data(void *context, const void *memory) {
    (void)memory;
    return ((struct store *)context)->base;
}
static size_t memory_size(void *context, const void *memory) {
    (void)memory;
    if (hooks.memory_size) hooks.memory_size();
    return LOAD(((struct store *)context)->bytes);
}
static void *memory_grow(void *context, const void *memory, uint64_t pages, uint64_t *before) {
    struct store *store = context;
    (void)memory;
    size_t wanted = store->bytes + pages * PAGE;
    if (pages > FAKE_MOST_PAGES || wanted > store->limit || wanted > FAKE_MOST_PAGES * PAGE)
        return error_new("failed to grow memory");
    *before = store->bytes / PAGE;
    __real_mprotect(store->base, wanted, PROT_READ | PROT_WRITE);
    STORE(store->bytes, wanted);
    return NULL;
}
static void global_get(void *context, const void *global, struct engine_val *value) {
    uint32_t constant = ((const struct engine_global *)global)->private1;
    value->kind = 0;
    value->of.i32 = constant ? (int32_t)constant : ((struct store *)context)->stack_pointer;
}

static const struct cloche_engine functions = {
    store_new,          store_delete,  store_context, store_limiter,   store_epoch_callback,
    set_epoch_deadline, set_fuel,      get_fuel,      increment_epoch, instantiate,
    export_get,         func_call,     memory_data,   memory_size,     memory_grow,
    global_get,         trap_new,      trap_code,     trap_message,    text_delete,
    error_new,          error_message, text_delete,   bytes_delete};

/* ---- for the cases */
void fake_engine_start(void) {
    static int started;
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    if (!started++) SAME(engines_sigaction(SIGSEGV, &action, &fake_engine_found), 0);
    if (fake_engine_before) fake_engine_found = *fake_engine_before;
}

void fake_start(void) {
    if (fake_engine_before) fake_engine_start();
    SAME(cloche_start(&functions, sizeof functions - 8), CLOCHE_ENGINE_FAILED);
    struct cloche_engine without = functions;
    without.error_delete = NULL;
    SAME(cloche_start(&without, sizeof without), CLOCHE_ENGINE_FAILED);
    SAME(cloche_start(&functions, sizeof functions), CLOCHE_DONE);
    fake_engine_start();
}

struct cloche_image fake_image(enum cloche_metering metering) {
    struct cloche_image image = {.engine = calloc(1, sizeof(struct fake_engine)),
                                 .metering = metering,
                                 .wasm_stack_bytes = 512 << 10,
                                 .ring_bytes = 64,
                                 .ring_used_at = 0,
                                 .ring_dropped_at = 4,
                                 .ring_held_at = 8,
                                 .ring_header_bytes = 16,
                                 .ring_capacity = 32,
                                 .request_buffer_bytes = FAKE_REQUEST_BYTES,
                                 .notice_bit = FAKE_BREAKER_BIT,
                                 .notice_bit_at = FAKE_BREAKER};
    return image;
}

struct made make(struct cloche_image *image) {
    struct made made = {0, NULL};
    uint64_t words = 0;
    SAME(cloche_new(image, FAKE_MOST_PAGES * PAGE, &made.handle, &words), CLOCHE_DONE);
    made.words = (uint64_t *)(uintptr_t)words;
    made.words[WORD_REQUEST_AT] = FAKE_REQUEST;
    return made;
}
int run(struct made guest, const char *script) { return cloche_call(guest.handle, (const uint8_t *)script, strlen(script)); }

void on_thread(void *(*work)(void *), void *argument, size_t stack_bytes) {
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    if (stack_bytes) SAME(pthread_attr_setstacksize(&attributes, stack_bytes), 0);
    SAME(pthread_create(&thread, &attributes, work, argument), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
}

void check_failed(const char *file, int line, const char *what) {
    fprintf(stderr, "%s:%d: not true: %s\n", file, line, what);
    _exit(1);
}
void check_same(const char *file, int line, const char *what, int64_t have, int64_t want) {
    if (have == want) return;
    fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", file, line, what, (long long)have, (long long)want);
    _exit(1);
}

static struct {
    const char *name;
    void (*run)(void);
    int starts;
} cases[256];
static int case_count;
void add_case(const char *name, void (*run)(void), int starts) {
    cases[case_count].name = name, cases[case_count].starts = starts, cases[case_count++].run = run;
}

int main(int count, char **arguments) {
    for (int i = 0; count > 1 && i < case_count; i++)
        if (!strcmp(cases[i].name, arguments[1])) {
            if (cases[i].starts) fake_start();
            cases[i].run();
            SAME(fake_live(), 0);
            return 0;
        }
    fake_start();
    if (count > 1 && !strcmp(arguments[1], "print")) return print_results(count - 2, arguments + 2);
    fprintf(stderr, "no such case\n");
    return 2;
}
