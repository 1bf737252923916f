/* The engine as the core sees it: the functions of wasmtime's C library that it calls, with plain types, in the order in which
   Python fills them in. Above each stands its name there, which a test compares with Python's list. The layouts are those of the
   wasmtime version that pyproject.toml pins; a test compares them with wasmtime-py's. */
#ifndef CLOCHE_ENGINE_H
#define CLOCHE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct engine_func {
    uint64_t store_id;
    void *private_;
};
struct engine_memory {
    uint64_t store_id;
    uint32_t private1;
    uint32_t private2;
};
struct engine_global {
    uint64_t store_id;
    uint32_t private1, private2, private3;
};
struct engine_instance {
    uint64_t store_id;
    size_t private_;
};
struct engine_extern {
    uint8_t kind;
    union {
        struct engine_func func;
        struct engine_global global;
        struct {
            struct engine_memory at;
            uint32_t more;
        } memory;
        uint64_t room[3];
    } of;
};
enum { ENGINE_FUNC = 0, ENGINE_GLOBAL = 1, ENGINE_TABLE = 2, ENGINE_MEMORY = 3 };
union engine_raw {
    int32_t i32;
    int64_t i64;
    uint64_t v128[2];
};
struct engine_val {
    uint8_t kind;
    union {
        int32_t i32;
        int64_t i64;
        uint64_t room[3];
    } of;
};
struct engine_bytes {
    size_t size;
    char *data;
};

typedef void *(*engine_callback)(void *env, void *caller, union engine_raw *values, size_t count);
typedef void *(*engine_epoch_callback)(void *context, void *data, uint64_t *delta, uint8_t *kind);

struct cloche_engine {
    /* wasmtime_store_new */
    void *(*store_new)(void *engine, void *data, void (*finalizer)(void *));
    /* wasmtime_store_delete */
    void (*store_delete)(void *store);
    /* wasmtime_store_context */
    void *(*store_context)(void *store);
    /* wasmtime_store_limiter */
    void (*store_limiter)(void *store, int64_t memory, int64_t table, int64_t instances, int64_t tables, int64_t memories);
    /* wasmtime_store_epoch_deadline_callback */
    void (*store_epoch_callback)(void *store, engine_epoch_callback callback, void *data, void (*finalizer)(void *));
    /* wasmtime_context_set_epoch_deadline */
    void (*set_epoch_deadline)(void *context, uint64_t ticks);
    /* wasmtime_context_set_fuel */
    void *(*set_fuel)(void *context, uint64_t fuel);
    /* wasmtime_context_get_fuel */
    void *(*get_fuel)(void *context, uint64_t *fuel);
    /* wasmtime_engine_increment_epoch */
    void (*increment_epoch)(void *engine);
    /* wasmtime_instance_pre_instantiate */
    void *(*instantiate)(void *instance_pre, void *context, struct engine_instance *instance, void **trap);
    /* wasmtime_instance_export_get */
    bool (*export_get)(void *context, const struct engine_instance *instance, const char *name, size_t length,
                       struct engine_extern *item);
    /* wasmtime_func_call_unchecked */
    void *(*func_call)(void *context, const struct engine_func *func, union engine_raw *values, size_t count, void **trap);
    /* wasmtime_memory_data */
    uint8_t *(*memory_data)(void *context, const void *memory);
    /* wasmtime_memory_data_size */
    size_t (*memory_size)(void *context, const void *memory);
    /* wasmtime_memory_grow */
    void *(*memory_grow)(void *context, const void *memory, uint64_t pages, uint64_t *before);
    /* wasmtime_global_get */
    void (*global_get)(void *context, const void *global, struct engine_val *value);
    /* wasmtime_trap_new */
    void *(*trap_new)(const char *message, size_t length);
    /* wasmtime_trap_code */
    bool (*trap_code)(const void *trap, uint8_t *code);
    /* wasm_trap_message */
    void (*trap_message)(const void *trap, struct engine_bytes *message);
    /* wasm_trap_delete */
    void (*trap_delete)(void *trap);
    /* wasmtime_error_new */
    void *(*error_new)(const char *message);
    /* wasmtime_error_message */
    void (*error_message)(const void *error, struct engine_bytes *message);
    /* wasmtime_error_delete */
    void (*error_delete)(void *error);
    /* wasm_byte_vec_delete */
    void (*bytes_delete)(struct engine_bytes *bytes);
};

#endif
