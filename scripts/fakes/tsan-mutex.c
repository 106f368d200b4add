// For builds with ThreadSanitizer: reports contended locks and unlocks of Swift's Mutex to ThreadSanitizer. The code
// of contended locks is in a library that is built without ThreadSanitizer, so each of them would look like a data
// race. The compiler inlines the uncontended path into each caller, where ThreadSanitizer sees it.
// Symbols: swift, stdlib/public/Synchronization/Mutex/LinuxImpl.swift (_MutexHandle._lockSlow,
// _MutexHandle._unlockSlow).

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>

#define SWIFT __attribute__((swiftcall))
#define SELF __attribute__((swift_context))
#define LOCK_SLOW "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define UNLOCK_SLOW "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"

extern void __tsan_acquire(void *);
extern void __tsan_release(void *);

SWIFT void lock(uint32_t thread, SELF void *mutex) __asm__(LOCK_SLOW);
SWIFT void lock(uint32_t thread, SELF void *mutex) {
    SWIFT void (*theirs)(uint32_t, SELF void *) = (SWIFT void (*)(uint32_t, SELF void *))dlsym(RTLD_NEXT, LOCK_SLOW);
    theirs(thread, mutex);
    __tsan_acquire(mutex);
}

SWIFT void unlock(SELF void *mutex) __asm__(UNLOCK_SLOW);
SWIFT void unlock(SELF void *mutex) {
    SWIFT void (*theirs)(SELF void *) = (SWIFT void (*)(SELF void *))dlsym(RTLD_NEXT, UNLOCK_SLOW);
    __tsan_release(mutex);
    theirs(mutex);
}
