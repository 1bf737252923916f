/* Makes a thread ready for the signals that a trap of a guest raises. */
#ifndef CLOCHE_SIGNALS_H
#define CLOCHE_SIGNALS_H

#include <signal.h>

/* Unblock these signals while a guest runs: the system ends the process if a trap raises a blocked one. */
void signals_unblock(sigset_t *before);
void signals_restore(const sigset_t *before);

/* Give this thread an alternate stack for handlers, as large as the engine's need. 0: the system has no memory for it. */
int signals_stack(void);

#endif
