// The setup that every process of the program does first.

import Glibc

/// Settings of this process: streams, signals, limits and memory.
enum ProcessSetup {
    /// Sets up streams, signals and the file limit.
    static func prepare() {
        // Opens each closed standard stream on /dev/null. Otherwise the next file that is opened would get its
        // descriptor, and log lines would be written to that file.
        for descriptor: Int32 in 0...2 where fcntl(descriptor, F_GETFD) < 0 {
            _ = open("/dev/null", O_RDWR)
        }
        // Ignores the signals for a file size limit (SIGXFSZ) and for a closed pipe (SIGPIPE), which would end the
        // process. Then the write returns an error instead.
        signal(SIGXFSZ, SIG_IGN)
        signal(SIGPIPE, SIG_IGN)
        // Handles SIGCHLD in the default way. Some launchers start this process with SIGCHLD ignored, and then the
        // kernel would not report how a worker ended.
        signal(SIGCHLD, SIG_DFL)
        raiseFileLimit()
    }

    /// Raises the soft limit on open files to the hard limit, because every journal that is read stays open.
    private static func raiseFileLimit() {
        let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        var files = rlimit()
        guard getrlimit(resource, &files) == 0 else { return }
        files.rlim_cur = files.rlim_max
        setrlimit(resource, &files)
    }

    /// Makes all threads of this process use one heap. Otherwise glibc reserves 128 MiB of address space for each
    /// thread, which counts against `ulimit -v`. Swift imports neither `mallopt` nor its option M_ARENA_MAX, whose
    /// value is -8 (malloc.h).
    static func shareHeap() {
        typealias MallocOption = @convention(c) (Int32, Int32) -> Int32
        guard let symbol = dlsym(nil, "mallopt") else { return }
        _ = unsafeBitCast(symbol, to: MallocOption.self)(-8, 1)
    }
}
