/* The import `call`: how the guest asks its host for something. */
#ifndef CLOCHE_HOST_H
#define CLOCHE_HOST_H
#include <stddef.h>
#include <stdint.h>

/* What the host has answered: a block that is the caller's to free. Without a block, `length` is one of ANSWER_*. */
typedef struct {
    uint8_t *block;
    size_t length;
} Answer;

/* Sends a request. The host checks it with node_check before it reads it, so that nothing in it has to be trusted. */
Answer host_ask(const uint8_t *request, size_t n);

size_t host_request_bytes(void); /* how long a request may be */

#endif
