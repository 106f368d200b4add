// The setup that every process of the program does first.

import Glibc

/// Settings of this process: streams, signals, limits and memory.
enum ProcessSetup {
    /// Sets up streams, signals and the file limit.
    static func prepare() {
        // Opens closed standard streams on /dev/null. Otherwise the next file that is opened would become a standard
        // stream, and log lines would go to this file.
        for descriptor: Int32 in 0...2 where fcntl(descriptor, F_GETFD) < 0 {
            _ = open("/dev/null", O_RDWR)
        }
        // A write beyond the file size limit, or to a closed pipe, must return an error, not end the process.
        signal(SIGXFSZ, SIG_IGN)
        signal(SIGPIPE, SIG_IGN)
        // If a launcher has set SIGCHLD to be ignored, the kernel does not report how a worker ended.
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
    /// thread, which counts against `ulimit -v`. The number -8 is M_ARENA_MAX in malloc.h, which Swift does not
    /// import.
    static func shareHeap() {
        typealias MallocOption = @convention(c) (Int32, Int32) -> Int32
        guard let symbol = dlsym(nil, "mallopt") else { return }
        _ = unsafeBitCast(symbol, to: MallocOption.self)(-8, 1)
    }
}
