/* Why guests have a stack of their own:
   - A guest that asks its host for something waits in the middle of its call. With a stack of its own it can wait while Python's
     frames, on the thread's stack, come and go.
   - wasmtime bounds a guest's stack by counting down from where it was entered. On a thread with less than that, a deep recursion
     would overflow for real. Here every guest has the same room, on whatever thread. */
#define _GNU_SOURCE
#include "stacks.h"
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define TSAN 1
#endif

#ifdef ASAN
void __sanitizer_start_switch_fiber(void **save, const void *bottom, size_t size);
void __sanitizer_finish_switch_fiber(void *save, const void **bottom, size_t *size);
#endif
#ifdef TSAN
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
#endif

/* Lies at the upper end of its own mapping. */
struct stack {
    struct stack *next;
    uint8_t *low;  /* the first accessible byte */
    size_t mapped; /* of the whole mapping, the guard page included */
};

enum { KEPT = 16, TOUCHED_BYTES = 64 * 1024 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct stack *idle;
static uint64_t idle_count, total;

static size_t page_bytes(void) {
    static size_t size; /* atomic: several threads may set it at once, to the same */
    if (!__atomic_load_n(&size, __ATOMIC_RELAXED)) __atomic_store_n(&size, (size_t)sysconf(_SC_PAGESIZE), __ATOMIC_RELAXED);
    return __atomic_load_n(&size, __ATOMIC_RELAXED);
}

struct stack *stack_take(size_t bytes) {
    size_t page = page_bytes(), mapped = ((bytes + page - 1) & ~(page - 1)) + 2 * page;
    pthread_mutex_lock(&lock);
    struct stack *found = idle;
    if (found && found->mapped >= mapped) idle = found->next, idle_count--;
    else found = NULL;
    pthread_mutex_unlock(&lock);
    if (found) return found;
    uint8_t *start = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED) return NULL;
    if (mprotect(start, page, PROT_NONE)) {
        munmap(start, mapped);
        return NULL;
    }
    struct stack *made = (struct stack *)(start + mapped - sizeof *made);
    made->low = start + page;
    made->mapped = mapped;
    __atomic_add_fetch(&total, 1, __ATOMIC_RELAXED);
    return made;
}

void stack_give_back(struct stack *stack, int used_deep) {
    if (used_deep) {
        size_t page = page_bytes();
        uint8_t *end = (uint8_t *)(((uintptr_t)stack - TOUCHED_BYTES) & ~(page - 1));
        madvise(stack->low, (size_t)(end - stack->low), MADV_DONTNEED);
    }
    pthread_mutex_lock(&lock);
    int keep = idle_count < KEPT;
    if (keep) stack->next = idle, idle = stack, idle_count++;
    pthread_mutex_unlock(&lock);
    if (!keep) {
        __atomic_sub_fetch(&total, 1, __ATOMIC_RELAXED);
        munmap(stack->low - page_bytes(), stack->mapped);
    }
}

uint64_t stack_count(void) { return __atomic_load_n(&total, __ATOMIC_RELAXED); }

void stack_before_fork(void) { pthread_mutex_lock(&lock); }
void stack_after_fork(void) { pthread_mutex_unlock(&lock); }

/* ---- the switch: save the registers that the calling convention says a function must preserve, and change the stack pointer */
void cloche_switch(void **save, void *to);
void cloche_enter_fiber(void);

#if defined(__APPLE__)
#define SYMBOL(name) "_" #name
#else
#define SYMBOL(name) #name
#endif

#if defined(__x86_64__)
enum { SAVED_WORDS = 6, AT_FIBER = 3 }; /* r15 r14 r13 r12 rbx rbp, then the address to return to */
/* clang-format off */
__asm__(
    ".text\n"
    ".p2align 4\n"
    ".globl " SYMBOL(cloche_switch) "\n"
    SYMBOL(cloche_switch) ":\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n"
    "  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
    "  retq\n"
    ".p2align 4\n"
    ".globl " SYMBOL(cloche_enter_fiber) "\n"
    SYMBOL(cloche_enter_fiber) ":\n"
    "  xorl %ebp, %ebp\n" /* ends the chain of frames for debuggers and profilers */
    "  movq %r12, %rdi\n"
    "  callq " SYMBOL(cloche_fiber_main) "\n"
    "  ud2\n");
/* clang-format on */

static void *prepare(uint8_t *top, struct fiber *fiber) {
    void **sp = (void **)(((uintptr_t)top & ~(uintptr_t)15) - 32); /* 16-aligned once the address below has been popped */
    *--sp = (void *)cloche_enter_fiber;
    sp -= SAVED_WORDS;
    for (int i = 0; i < SAVED_WORDS; i++) sp[i] = NULL;
    sp[AT_FIBER] = fiber;
    return sp;
}
#elif defined(__aarch64__)
enum { SAVED_WORDS = 20 }; /* x19..x30, d8..d15 */
/* clang-format off */
__asm__(
    ".text\n"
    ".p2align 4\n"
    ".globl " SYMBOL(cloche_switch) "\n"
    SYMBOL(cloche_switch) ":\n"
    "  sub sp, sp, #160\n"
    "  stp x19, x20, [sp]\n  stp x21, x22, [sp, #16]\n  stp x23, x24, [sp, #32]\n  stp x25, x26, [sp, #48]\n"
    "  stp x27, x28, [sp, #64]\n  stp x29, x30, [sp, #80]\n"
    "  stp d8, d9, [sp, #96]\n  stp d10, d11, [sp, #112]\n  stp d12, d13, [sp, #128]\n  stp d14, d15, [sp, #144]\n"
    "  mov x9, sp\n  str x9, [x0]\n"
    "  mov sp, x1\n"
    "  ldp x19, x20, [sp]\n  ldp x21, x22, [sp, #16]\n  ldp x23, x24, [sp, #32]\n  ldp x25, x26, [sp, #48]\n"
    "  ldp x27, x28, [sp, #64]\n  ldp x29, x30, [sp, #80]\n"
    "  ldp d8, d9, [sp, #96]\n  ldp d10, d11, [sp, #112]\n  ldp d12, d13, [sp, #128]\n  ldp d14, d15, [sp, #144]\n"
    "  add sp, sp, #160\n"
    "  ret\n"
    ".p2align 4\n"
    ".globl " SYMBOL(cloche_enter_fiber) "\n"
    SYMBOL(cloche_enter_fiber) ":\n"
    "  mov x29, #0\n"
    "  mov x0, x19\n"
    "  bl " SYMBOL(cloche_fiber_main) "\n"
    "  brk #1\n");
/* clang-format on */

static void *prepare(uint8_t *top, struct fiber *fiber) {
    void **sp = (void **)(((uintptr_t)top & ~(uintptr_t)15) - 32) - SAVED_WORDS;
    for (int i = 0; i < SAVED_WORDS; i++) sp[i] = NULL;
    sp[0] = fiber;                       /* x19 */
    sp[11] = (void *)cloche_enter_fiber; /* x30: where `ret` goes */
    return sp;
}
#else
#error "no stack switch for this processor"
#endif

void cloche_fiber_main(struct fiber *fiber);

static void into(struct fiber *fiber) {
#ifdef ASAN
    __sanitizer_start_switch_fiber(&fiber->sanitizer[0], fiber->stack->low, (size_t)((uint8_t *)fiber->stack - fiber->stack->low));
#endif
#ifdef TSAN
    fiber->sanitizer[0] = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(fiber->sanitizer[1], 0);
#endif
    cloche_switch(&fiber->outside, fiber->inside);
#ifdef ASAN
    __sanitizer_finish_switch_fiber(fiber->sanitizer[0], NULL, NULL);
#endif
#ifdef TSAN
    if (fiber->done) __tsan_destroy_fiber(fiber->sanitizer[1]);
#endif
}

void fiber_begin(struct fiber *fiber, void (*work)(void *), void *argument) {
    fiber->work = work;
    fiber->argument = argument;
    fiber->done = 0;
#ifdef TSAN
    fiber->sanitizer[1] = __tsan_create_fiber(0);
#endif
    fiber->inside = prepare((uint8_t *)fiber->stack, fiber);
    into(fiber);
}

void fiber_resume(struct fiber *fiber) { into(fiber); }

static void out(struct fiber *fiber, int for_good) {
#ifdef ASAN
    __sanitizer_start_switch_fiber(for_good ? NULL : &fiber->sanitizer[1], fiber->sanitizer[2], fiber->outside_bytes);
#endif
#ifdef TSAN
    __tsan_switch_to_fiber(fiber->sanitizer[0], 0);
#endif
    fiber->done = for_good;
    cloche_switch(&fiber->inside, fiber->outside);
#ifdef ASAN
    __sanitizer_finish_switch_fiber(fiber->sanitizer[1], (const void **)&fiber->sanitizer[2], &fiber->outside_bytes);
#endif
}

void fiber_leave(struct fiber *fiber) { out(fiber, 0); }

__attribute__((used, noreturn)) void cloche_fiber_main(struct fiber *fiber) {
#ifdef ASAN
    __sanitizer_finish_switch_fiber(NULL, (const void **)&fiber->sanitizer[2], &fiber->outside_bytes);
#endif
    fiber->work(fiber->argument);
    out(fiber, 1);
    abort(); /* nobody resumes a fiber whose work is done */
}
