// Tests of systems that refuse threads and processes, or have no /proc. The program must work or report the reason.

import Foundation
import TestSupport
import Testing

struct TaskLimitTests {
    private let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
    }

    // MARK: ulimit -u

    /// A launcher for a user who is not root and has no other processes. `ulimit -u` counts all threads of a user,
    /// and does not apply to root.
    private static let user = ["setpriv", "--reuid", "12348", "--regid", "12348", "--clear-groups"]

    /// Whether the tests can run commands as `user`, and `user` can run the built program.
    static let hasUser: Bool = {
        let outcome = try? Tool.run(["--help"], launcher: user)
        return geteuid() == 0 && outcome?.status == 0
    }()

    private func run(_ arguments: [String], tasks: Int) throws -> TestCommand.Outcome {
        chmod(folder.path, 0o777)
        let launcher = TaskLimitTests.user + [String].limit("-u \(tasks)")
        return try Tool.run(arguments, launcher: launcher)
    }

    private func job(_ name: String) -> [String] {
        Tool.tinyArguments(saveDirectory: folder.file(name)) + [
            "--device", "cpu", "--threads", "2",
        ]
    }

    @Test(.enabled(if: hasUser)) func fewTasks() throws {
        var ends: Set<Int32> = []
        for tasks in [1, 2, 4, 6, 8, 10, 12, 16, 400] {
            let outcome = try run(job("few \(tasks)"), tasks: tasks)
            ends.insert(outcome.status)
            guard outcome.status != 0 else { continue }
            #expect(outcome.status == 74, "\(tasks): \(outcome.status) \(outcome.errors)")
            #expect(outcome.errors.contains("ulimit -u is \(tasks)"), "\(tasks): \(outcome.errors)")
        }
        #expect(ends == [0, 74])
    }

    @Test(.enabled(if: hasUser), arguments: [["--threads", "64"], ["--workers", "20"]])
    func moreThanThereMayBe(flags: [String]) throws {
        let outcome = try run(job("many") + flags, tasks: 24)
        #expect(outcome.status == 74, "\(outcome.errors)")
        #expect(
            outcome.errors.contains("Error: cannot start") && outcome.errors.contains(flags[0])
                && outcome.errors.contains("ulimit -u is 24"), "\(outcome.errors)")
    }

    /// Checks a limit of one thread. Commands that read results must work. Other commands must report the limit.
    @Test(.enabled(if: hasUser)) func resultsAreReadWithOneThread() throws {
        let made = try run(job("out"), tasks: 400)
        #expect(made.status == 0, "\(made.errors)")
        for command in ["inspect", "verify", "report"] {
            let outcome = try run([command, folder.file("out")], tasks: 1)
            #expect(outcome.status == 0, "\(command): \(outcome.errors)")
        }
        for command in [["devices"], ["--version"], ["fetch", "--layers", "0"]] {
            let outcome = try run(command, tasks: 1)
            #expect(outcome.status == 74, "\(command): \(outcome.errors)")
            #expect(outcome.errors.contains("ulimit -u is 1"), "\(command): \(outcome.errors)")
        }
    }

    // MARK: Threads that are refused later

    /// Builds a library that refuses all threads after the first FEW_THREADS threads. Returns its path.
    private func fewThreads() throws -> String {
        let source = try folder.write(
            Array(
                """
                #define _GNU_SOURCE
                #include <dlfcn.h>
                #include <errno.h>
                #include <pthread.h>
                #include <stdlib.h>
                static int made;
                int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *), void *value) {
                    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = dlsym(RTLD_NEXT, "pthread_create");
                    const char *few = getenv("FEW_THREADS");
                    if (few && __sync_add_and_fetch(&made, 1) > atoi(few)) return EAGAIN;
                    return real(thread, attributes, body, value);
                }
                """.utf8), "few.c")
        try FaultShim.compile(source, to: folder.file("few.so"))
        return folder.file("few.so")
    }

    /// Checks a system that grants threads while the program checks the limit, and refuses threads later. The run may
    /// then wait for ever, but a signal must end it.
    @Test func aSignalEndsARunThatGetsNoThreads() throws {
        let cores = sysconf(Int32(_SC_NPROCESSORS_ONLN))
        // The threads that the program starts in its two checks, plus the thread that receives signals.
        let tried = (7 + min(cores, 4) + 1) + 1 + (6 + min(cores, 7) + 2 * 4)
        for more in [0, 3, 5] {
            let tool = try RunningTool(
                Tool.arguments(
                    corpus: try folder.write(SyntheticCorpus.jsonl(documents: 1000), "c.jsonl"),
                    layers: [0, 1], saveDirectory: folder.file("out \(more)"))
                    + [
                        "--device", "cpu", "--workers", "2", "--threads", "2", "--progress", "none",
                    ],
                environment: [
                    "LD_PRELOAD": try fewThreads(), "FEW_THREADS": "\(tried + more)",
                ])
            _ = tool.wait { _ in usleep(1_500_000) == 0 }
            tool.send(SIGTERM)
            #expect([75, 74, 0].contains(tool.wait()), "\(more): \(tool.log)")
        }
    }

    // MARK: No /proc

    private static let withoutProc: [String] =
        ["unshare", "-m"] + [String].shell("mount -t tmpfs none /proc && exec \"$@\"")
    static let canHideProc: Bool = (try? TestCommand.run(withoutProc + ["true"]).status) == 0

    /// Checks a system without /proc. Commands that read results must work, and a misspelt flag must be reported.
    /// Other commands must report that /proc is missing.
    @Test(.enabled(if: canHideProc)) func withoutProc() throws {
        try Tool.run(job("out"), exits: 0)
        for command in ["inspect", "verify", "report"] {
            let outcome = try Tool.run(
                [command, folder.file("out")], launcher: TaskLimitTests.withoutProc)
            #expect(outcome.status == 0, "\(command): \(outcome.errors)")
        }
        for command in [job("none"), ["devices"], ["--version"], ["fetch", "--layers", "0"]] {
            let outcome = try Tool.run(command, launcher: TaskLimitTests.withoutProc)
            #expect(outcome.status == 74, "\(command): \(outcome.errors)")
            #expect(
                outcome.errors.hasPrefix("Error: /proc is missing")
                    && outcome.errors.split(separator: "\n").count == 1, "\(outcome.errors)")
        }
        #expect(!FileManager.default.fileExists(atPath: folder.file("none")))
        let misspelt = try Tool.run(["--layerz", "0"], launcher: TaskLimitTests.withoutProc)
        #expect(misspelt.status == 64 && misspelt.errors.contains("--layerz"))
    }
}
