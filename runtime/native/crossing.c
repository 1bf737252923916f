/* Into a guest and back: what runs on the guest's own stack, and how it is left in the middle of a call. */
#define _GNU_SOURCE
#include "core.h"
#include "signals.h"
#include <string.h>

struct cloche_engine engine;

static _Thread_local struct guest *current; /* the guest that runs on this thread, the innermost one */

struct guest *current_guest(void) { return current; }

/* ---- what the engine has to say */
static void keep_message(struct guest *guest, const struct engine_bytes *text) {
    size_t length = text->size < sizeof guest->message ? text->size : sizeof guest->message;
    if (length) memcpy(guest->message, text->data, length);
    if (length && !guest->message[length - 1]) length--; /* the messages of traps end with a zero */
    guest->message_length = (int)length;
}

void keep_error(struct guest *guest, void *error) {
    struct engine_bytes text = {0, NULL};
    engine.error_message(error, &text);
    keep_message(guest, &text);
    engine.bytes_delete(&text);
    engine.error_delete(error);
}

void keep_trap(struct guest *guest, void *trap) {
    struct engine_bytes text = {0, NULL};
    uint8_t code;
    if (engine.trap_code(trap, &code)) guest->words[WORD_TRAP_CODE] = code;
    engine.trap_message(trap, &text);
    keep_message(guest, &text);
    engine.bytes_delete(&text);
    engine.trap_delete(trap);
}

/* ---- on the guest's stack */
int guest_run(struct guest *guest) {
    static const size_t slots[] = {4, 1, 1, 4};
    union engine_raw values[4];
    void *trap = NULL;
    memset(values, 0, sizeof values);
    for (int i = 0; i < 4; i++) values[i].i64 = guest->arguments[i];
    void *error = engine.func_call(guest->context, &guest->functions[guest->function], values, slots[guest->function], &trap);
    if (error || trap) {
        if (guest->trapped) { /* it is being unwound: the first reason counts */
            if (error) engine.error_delete(error);
            if (trap) engine.trap_delete(trap);
        } else if (error) {
            keep_error(guest, error);
        } else {
            keep_trap(guest, trap);
        }
        guest->trapped = 1;
        return CLOCHE_TRAPPED;
    }
    int wide = guest->function == CLOCHE_NODE_CALL;
    guest->words[WORD_RESULT] = wide ? (uint64_t)values[0].i64 : (uint32_t)values[0].i32;
    return CLOCHE_DONE;
}

static void work(void *argument) {
    struct guest *guest = argument;
    guest->status = guest_run(guest);
}

void guest_wait(struct guest *guest, int status) {
    guest->status = status;
    fiber_leave(&guest->fiber);
}

int guest_cross(struct guest *guest, int begin) {
    sigset_t before;
    struct guest *outer = current;
    signals_unblock(&before);
    current = guest;
    if (begin) fiber_begin(&guest->fiber, work, guest);
    else fiber_resume(&guest->fiber);
    current = outer;
    signals_restore(&before);
    return guest->status;
}
