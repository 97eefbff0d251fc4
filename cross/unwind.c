/* What the unwinder of GCC 12 expects of the C library, for musl.
 *
 * Debian's libgcc_eh was built against glibc and asks glibc's _dl_find_object which object a program counter lies in.
 * The same can be learned from dl_iterate_phdr, which musl has. */
#define _GNU_SOURCE
#include <link.h>
#include <pthread.h>

/* As declared by glibc's <dlfcn.h>, version 2.35. */
struct dl_find_object {
    unsigned long long flags;
    void *map_start, *map_end;
    struct link_map *link_map;
    void *eh_frame;
#ifdef __arm__
    int eh_count;
#endif
    unsigned long long reserved[7];
};

struct search {
    ElfW(Addr) wanted;
    struct dl_find_object *found;
};

static int look_at(struct dl_phdr_info *object, size_t size, void *argument)
{
    struct search *search = argument;
    void *start = 0, *end = 0, *frames = 0;
    (void)size;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        ElfW(Addr) from = object->dlpi_addr + part->p_vaddr;
        if (part->p_type == PT_GNU_EH_FRAME)
            frames = (void *)from;
        if (part->p_type == PT_LOAD && search->wanted - from < part->p_memsz) {
            start = (void *)from;
            end = (void *)(from + part->p_memsz);
        }
    }
    if (!start || !frames)
        return 0;
    *search->found = (struct dl_find_object){.map_start = start, .map_end = end, .eh_frame = frames};
    return 1;
}

int _dl_find_object(void *pc, struct dl_find_object *found)
{
    struct search search = {(ElfW(Addr))pc, found};
    return dl_iterate_phdr(look_at, &search) ? 0 : -1;
}

/* libgcc_eh refers to these weakly, and a weak reference takes nothing out of a static library: they would be null, and
 * the first panic that unwinds would call one. This object is always linked, and refers to them strongly. */
__attribute__((used)) void *const outpost_unwinder_needs[] = {
    (void *)pthread_once,        (void *)pthread_mutex_lock,  (void *)pthread_mutex_unlock,
    (void *)pthread_key_create,  (void *)pthread_getspecific, (void *)pthread_setspecific,
};
