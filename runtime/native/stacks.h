/* The stacks that guests run on, and the switch between them. Stacks come from a pool for all threads: the last one used comes
   first. */
#ifndef CLOCHE_STACKS_H
#define CLOCHE_STACKS_H

#include <stddef.h>
#include <stdint.h>

struct stack;

/* A stack of at least `bytes`, with an inaccessible page below it; NULL if the system gives none. */
struct stack *stack_take(size_t bytes);
/* used_deep: a deep recursion has touched its lower pages, so give these back to the system. */
void stack_give_back(struct stack *stack, int used_deep);
uint64_t stack_count(void);

/* One flow of control on a stack: `begin` starts `work(argument)` there, and returns when that calls `fiber_leave` or returns;
   `resume` lets it go on after `fiber_leave`. Both must happen on one thread. */
struct fiber {
    struct stack *stack;
    void *inside;  /* stack pointer of the fiber while it waits */
    void *outside; /* stack pointer of the code that entered it */
    void (*work)(void *);
    void *argument;
    int done;
    void *sanitizer[3]; /* what sanitizers must be told of a switch */
    size_t outside_bytes;
};
void fiber_begin(struct fiber *fiber, void (*work)(void *), void *argument);
void fiber_resume(struct fiber *fiber);
void fiber_leave(struct fiber *fiber);

/* Around a fork: no other thread is in the middle of a change to the pool. */
void stack_before_fork(void);
void stack_after_fork(void);

#endif
