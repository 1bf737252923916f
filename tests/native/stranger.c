/* A library that belongs neither to the core nor to the engine, and installs handlers. */
#define _GNU_SOURCE
#include <signal.h>

int stranger_sigaction(int number, const struct sigaction *action, struct sigaction *before) {
    return sigaction(number, action, before);
}
sighandler_t stranger_signal(int number, sighandler_t handler) { return signal(number, handler); }
sighandler_t stranger_sysv_signal(int number, sighandler_t handler) { return sysv_signal(number, handler); }
int stranger_calls;
void stranger_handler(int number) { stranger_calls += number == SIGSEGV; }
