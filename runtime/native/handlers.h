/* Handlers of faults: the engine's gets a fault first, then that of other code. See handlers.c. */
#ifndef CLOCHE_HANDLERS_H
#define CLOCHE_HANDLERS_H

#include <signal.h>

/* Call this once, before the first engine is made: from then on the core's handler gets the faults. `engine` is any address in the
   engine's library. */
void handlers_take(const void *engine);

/* In a forked process: no other thread holds the lock any more. */
void handlers_forked(void);

/* Redirect the calls of libraries that have been loaded since. */
void handlers_redirect(void);

/* Check the kernel's handlers, unless that has just been done. */
void handlers_look(void);

/* What the engine's calls of sigaction, and those of other libraries, are redirected to. */
int engines_sigaction(int number, const struct sigaction *action, struct sigaction *before);
int others_sigaction(int number, const struct sigaction *action, struct sigaction *before);

#endif
