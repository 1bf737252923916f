/* Redirects calls that other libraries make to functions of the C library; see redirect.c. */
#ifndef CLOCHE_REDIRECT_H
#define CLOCHE_REDIRECT_H

struct redirection {
    const char *name;
    void (*to)(void); /* what every library calls instead, but the core, the engine and libraries that define the function */
    void (*engines_to)(void); /* what the engine's library calls instead; NULL: its calls stay as they are */
};

/* Redirect the calls of all libraries that are loaded now. `engine` is any address in the engine's library. Returns how many of the
   engine's calls are redirected: 0 where that is impossible. */
int redirect_calls(const struct redirection *all, int count, const void *engine);

/* Whether libraries have been loaded since, whose calls are not redirected yet. */
int redirect_is_due(void);

void redirect_before_fork(void);
void redirect_after_fork(void); /* in both processes */

#endif
