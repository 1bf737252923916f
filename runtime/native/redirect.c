/* A library calls a function of another one through a slot of its own, which the loader fills with the function's address. The
   slots are named in the library's relocations, so they can be found, and filled with another address. Nothing is done to a
   library's code.

   The loader makes most slots read-only once they are filled (RELRO). While another thread loads a library, such slots of it can
   still be written: making their page read-only would then crash the loader, so that library is left out until the next call. */
#define _GNU_SOURCE
#include "redirect.h"

#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__))
#include <errno.h>
#include <link.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef __x86_64__
enum { IN_TABLE = R_X86_64_GLOB_DAT, FOR_CALLS = R_X86_64_JUMP_SLOT };
#else
enum { IN_TABLE = R_AARCH64_GLOB_DAT, FOR_CALLS = R_AARCH64_JUMP_SLOT };
#endif
enum { TRIES = 8 }; /* after so many calls give up on a library whose slots stay writable */

struct search {
    const struct redirection *all;
    int count, engines, left_out;
    const void *core, *engine;
    unsigned long long loaded;
};
/* dl_iterate_phdr holds a lock of the loader, which would stay locked in a forked child: so no thread is in it during a fork. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
void redirect_before_fork(void) { pthread_mutex_lock(&lock); }
void redirect_after_fork(void) { pthread_mutex_unlock(&lock); }

static unsigned long long seen; /* the loader's count of libraries loaded so far, when all their calls were last redirected */

static int holds(const struct dl_phdr_info *object, const void *address) {
    uintptr_t at = (uintptr_t)address - object->dlpi_addr;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        if (part->p_type == PT_LOAD && at >= part->p_vaddr && at - part->p_vaddr < part->p_memsz) return 1;
    }
    return 0;
}

/* Whether the loader will make this slot read-only. It does so with whole pages, rounded as here. */
static int becomes_read_only(const struct dl_phdr_info *object, uintptr_t slot, uintptr_t page) {
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        uintptr_t from = object->dlpi_addr + part->p_vaddr;
        if (part->p_type == PT_GNU_RELRO && slot >= (from & -page) && slot < ((from + part->p_memsz) & -page)) return 1;
    }
    return 0;
}

/* Has the kernel add 0 to the word there, atomically; it fails if the page is read-only. */
static int is_read_only(uintptr_t slot) {
    uint32_t nobody = 0;
    return syscall(SYS_futex, &nobody, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 0, 0, slot,
                   FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_EQ, 0)) < 0 &&
           errno == EFAULT;
}

static int fill(struct search *search, const struct dl_phdr_info *object, uintptr_t slot, void (*to)(void)) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = slot & -page;
    if (__atomic_load_n((uintptr_t *)slot, __ATOMIC_ACQUIRE) == (uintptr_t)to) return 1;
    int protected = becomes_read_only(object, slot, page);
    if (protected && !is_read_only(slot)) {
        search->left_out = 1;
        return 0;
    }
    if (protected && mprotect((void *)start, page, PROT_READ | PROT_WRITE)) return 0;
    __atomic_store_n((uintptr_t *)slot, (uintptr_t)to, __ATOMIC_RELEASE);
    if (protected) mprotect((void *)start, page, PROT_READ);
    return 1;
}

static void look_through(struct search *search, const struct dl_phdr_info *object, int engines, const ElfW(Rela) *all, size_t bytes,
                         const ElfW(Sym) *symbols, const char *names) {
    for (size_t i = 0; i < bytes / sizeof *all; i++) {
        unsigned type = (unsigned)ELF64_R_TYPE(all[i].r_info);
        if (type != IN_TABLE && type != FOR_CALLS) continue;
        const ElfW(Sym) *symbol = &symbols[ELF64_R_SYM(all[i].r_info)];
        if (symbol->st_shndx != SHN_UNDEF) continue; /* it defines the function itself, as the C library and sanitizers do */
        const char *name = names + symbol->st_name;
        for (int k = 0; k < search->count; k++) {
            void (*to)(void) = engines ? search->all[k].engines_to : search->all[k].to;
            if (!to || strcmp(name, search->all[k].name)) continue;
            int filled = fill(search, object, object->dlpi_addr + all[i].r_offset, to);
            if (engines) search->engines += filled;
        }
    }
}

static int look_at(struct dl_phdr_info *object, size_t size, void *it) {
    struct search *search = it;
    (void)size;
    search->loaded = object->dlpi_adds;
    if (holds(object, search->core)) return 0;
    const ElfW(Dyn) *entry = NULL;
    for (int i = 0; i < object->dlpi_phnum; i++)
        if (object->dlpi_phdr[i].p_type == PT_DYNAMIC)
            entry = (const ElfW(Dyn) *)(object->dlpi_addr + object->dlpi_phdr[i].p_vaddr);
    const void *tables[2] = {NULL, NULL}, *symbols = NULL, *names = NULL;
    size_t bytes[2] = {0, 0};
    for (; entry && entry->d_tag != DT_NULL; entry++) {
        uintptr_t value = entry->d_un.d_ptr; /* glibc has added the library's address, other loaders have not */
        const void *at = (const void *)(value < object->dlpi_addr ? value + object->dlpi_addr : value);
        switch (entry->d_tag) {
        case DT_SYMTAB: symbols = at; break;
        case DT_STRTAB: names = at; break;
        case DT_JMPREL: tables[0] = at; break;
        case DT_PLTRELSZ: bytes[0] = entry->d_un.d_val; break;
        case DT_RELA: tables[1] = at; break;
        case DT_RELASZ: bytes[1] = entry->d_un.d_val; break;
        default: break;
        }
    }
    int engines = holds(object, search->engine);
    for (int i = 0; i < 2; i++)
        if (tables[i] && symbols && names) look_through(search, object, engines, tables[i], bytes[i], symbols, names);
    return 0;
}

int redirect_calls(const struct redirection *all, int count, const void *engine) {
    static unsigned long long tried;
    static int tries;
    struct search search = {.all = all, .count = count, .core = &seen, .engine = engine};
    pthread_mutex_lock(&lock);
    dl_iterate_phdr(look_at, &search);
    tries = search.loaded == tried ? tries + 1 : 1;
    tried = search.loaded;
    if (!search.left_out || tries >= TRIES) seen = search.loaded;
    pthread_mutex_unlock(&lock);
    return search.engines;
}

static int first_of_all(struct dl_phdr_info *object, size_t size, void *loaded) {
    (void)size;
    *(unsigned long long *)loaded = object->dlpi_adds;
    return 1;
}

int redirect_is_due(void) {
    unsigned long long loaded = 0;
    pthread_mutex_lock(&lock);
    dl_iterate_phdr(first_of_all, &loaded);
    int due = loaded != seen;
    pthread_mutex_unlock(&lock);
    return due;
}

#else
int redirect_calls(const struct redirection *all, int count, const void *engine) {
    (void)all, (void)count, (void)engine;
    return 0;
}
int redirect_is_due(void) { return 0; }
void redirect_before_fork(void) {}
void redirect_after_fork(void) {}
#endif
