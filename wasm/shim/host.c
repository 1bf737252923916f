#include "host.h"
#include "codec.h"
#include "wire/abi.h"

/* The answer lies where the host has had node_alloc put it: address << 32 | length. */
__attribute__((import_module(IMPORT_MODULE), import_name("call"))) extern int64_t host_call(const void *p, int32_t n);

Answer host_ask(const uint8_t *request, size_t n) {
    uint64_t packed = (uint64_t)host_call(request, (int32_t)n);
    return (Answer){(uint8_t *)(uintptr_t)(packed >> 32), (uint32_t)packed};
}

size_t host_request_bytes(void) { return codec_reply_bytes(); }
