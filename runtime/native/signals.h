/* What a thread needs for the signals by which the processor tells of a trap. */
#ifndef CLOCHE_SIGNALS_H
#define CLOCHE_SIGNALS_H

#include <signal.h>

/* A thread that blocks one of them would die of the next trap: unblock them while a guest runs. */
void signals_unblock(sigset_t *before);
void signals_restore(const sigset_t *before);

/* See that this thread has a stack of its own for those handlers, large enough for the engine's. 0: the system gives none. */
int signals_stack(void);

#endif
