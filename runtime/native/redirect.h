/* Other libraries' calls of functions of the C library, sent to functions of the core. */
#ifndef CLOCHE_REDIRECT_H
#define CLOCHE_REDIRECT_H

struct redirection {
    const char *name;
    void (*to)(void);         /* in place of it, for every library but the core, the engine and those that define it */
    void (*engines_to)(void); /* for the engine's library; NULL: its calls stay as they are */
};

/* Redirect the calls of all libraries that are loaded now. `engine` is the address of anything in the engine's library. Returns how many
   of the engine's calls are redirected: 0 where that cannot be done. */
int redirect_calls(const struct redirection *all, int count, const void *engine);

/* Whether libraries have been loaded since, whose calls are not redirected yet. */
int redirect_is_due(void);

void redirect_before_fork(void);
void redirect_after_fork(void); /* in both processes */

#endif
