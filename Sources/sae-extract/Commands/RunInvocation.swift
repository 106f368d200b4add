// A run, from its flags to its exit code.

import AuthorReceipts
import Extraction
import Files
import FoundationEssentials
import Glibc
import Logging
import Planning
import RunFiles
import RunState
import Synchronization
import Threading

/// One invocation of a run.
struct RunInvocation {
    private let flags: RunFlags
    private let environment: [String: String]
    private let log = Logger(label: "sae-extract")

    init(_ flags: RunFlags, environment: [String: String]) {
        (self.flags, self.environment) = (flags, environment)
    }

    /// Carries out the run and ends the process with the run's exit code. Returns only after a dry run. Throws an
    /// error if the run cannot start.
    func run() async throws {
        let control = StopControl(advice: advice)
        StopSignals.handle({ control.receive($0) }, meanwhile: { control.look() })
        var options = try flags.options()
        options.commandLine = ProcessArguments.all
        let scheduler = try SchedulerPlacement(
            rank: flags.execution.rank, worldSize: flags.execution.worldSize,
            environment: environment)
        options.placement = scheduler.placement
        for note in scheduler.notes { log.info("\(note)") }
        for warning in scheduler.warnings { log.warning("\(warning)") }
        if let source = scheduler.source, scheduler.placement.worldSize > 1 {
            log.info(
                "rank \(scheduler.placement.rank) of \(scheduler.placement.worldSize) (\(source))")
        }
        if let threads = options.threads,
            let warning = AvailableCores(environment: environment).warning(threads: threads)
        {
            log.warning("\(warning)")
        }
        let overwriting = try isOverwriting(scheduler.placement)

        let resolver = InputResolver(
            options, environment: environment, log: log, arguments: ProcessArguments.all)
        guard
            let locations = try await resolver.locations(isDryRun: flags.output.isDryRun)
        else { return }
        let devices = try await DeviceDiscovery(environment: environment)
            .devices(for: options, log: log)
        if options.dataPath == "/dev/stdin", isatty(STDIN_FILENO) == 1 {
            log.info("reading the corpus from the terminal; press Ctrl-D at its end")
        }
        let plan = try RunPlan(
            options, at: locations, devices: devices, startsAnew: overwriting)
        for warning in plan.warnings { log.warning("\(warning)") }
        let inputs = try InputFingerprints(plan)
        for warning in inputs.warnings { log.warning("\(warning)") }
        if let note = MappedFile.unmappedNote { log.warning("\(note)") }
        var state = StateFolder(plan.files, ResumeSettings(plan, inputs))
        // Checks that can refuse the run come before the run removes or writes any file.
        if !overwriting { try state.check(beginning: plan.files) }
        let size = try SizeEstimate(plan, inputs, state, overwriting: overwriting)
        if !overwriting {
            for warning in state.receiptWarnings { log.warning("\(warning)") }
        }
        if flags.output.isDryRun {
            let lines = try PlanReport.lines(
                plan, inputs, state, size, overwriting: overwriting, log: log)
            try printLines(lines)
        }
        try size.check(ignoringShortage: options.ignoresFreeSpace, log: log)
        try StartLimits.checkTasks(WorkerTask.tasks(plan, inputs, state))
        let manifest = Mutex(
            try RunManifest(plan, inputs, state, overwriting: overwriting))
        if plan.naming.labelName != OutputNaming(label: plan.label).labelName {
            log.warning(
                "results of \(plan.label) in \(plan.saveDirectory) have file names that begin with \(plan.naming.start), as earlier versions of sae-extract wrote them. This run continues them under these names. Programs that split names at __ may split these names wrongly; to get names that begin with \(OutputNaming(label: plan.label).start), use --overwrite"
            )
        }
        if flags.output.isDryRun { return }
        try FileNameCheck(plan).check()
        if overwriting {
            try plan.checkTokenizer()
            let others = try state.clear(plan.files)
            if others > 0 {
                log.warning(
                    "--overwrite: kept \(counted(others, "file")) of \(plan.label) in \(plan.saveDirectory), because this command does not make them (other authors, layers or sites); if you do not need them, remove them yourself"
                )
            }
        }
        try state.open()
        try state.removeStalePartials()
        // From here on, a signal first ends the workers and then the run. So `run.json` gets the outcome of this run.
        control.begin()
        let others = try manifest.withLock { try $0.write(.unfinished) }
        if let other = others.first, plan.placement.worldSize == 1 {
            let outcome =
                overwriting
                ? "--overwrite has removed the other run's results, so the other run may end with an error; next time, end the other run before you use --overwrite"
                : "both runs compute the same unfinished batches; the results stay correct, but end one of the runs to save time"
            log.warning(
                "another run (process \(other.identifier)) is at work on the same results in \(plan.saveDirectory): \(outcome)"
            )
        }

        let clock = ContinuousClock.now
        let tasks = WorkerTask.tasks(plan, inputs, state)
        let display = ProgressDisplay(
            tasks, flags.execution.progress,
            seconds: environment[ProgressDisplay.secondsVariable].flatMap(Double.init)
                .map { $0.isNaN ? 30 : min(max(0.01, $0), 86_400) }, log: log)
        let ends = await Launcher(
            tasks, environment: environment, logLevel: flags.execution.logLevel,
            control: control,
            log: log, stopLimit: stopLimit,
            ended: { display.end($0, $1) },
            handler: { event, rank in
                manifest.withLock { $0.add(event, rank: rank) }
                display.add(event, rank: rank)
            }
        ).run()
        let seconds = (ContinuousClock.now - clock) / .seconds(1)
        let progress = display.finish()
        // From this point on, the run waits for no other thread, so `StopControl` need not end the process.
        control.end()
        finish(
            ends, plan, state, manifest.withLock { $0 }, progress, seconds, control,
            rankSource: scheduler.source)
    }

    /// Returns whether the run must first remove existing results. Throws `UsageError` if `--overwrite` would remove
    /// results of other ranks or array tasks.
    private func isOverwriting(_ placement: RankPlacement) throws -> Bool {
        guard flags.output.isOverwriting else { return false }
        guard placement.worldSize == 1 else {
            throw UsageError(
                "--overwrite",
                "cannot be given if a run has several ranks (this is rank \(placement.rank) of \(placement.worldSize)), because each rank would remove the results of the others; leave out --overwrite, and remove the old results from \(flags.output.directory) before you start the ranks, or give another --save_dir"
            )
        }
        if let count = environment["SLURM_RESTART_COUNT"].flatMap({ Int($0) }), count > 0 {
            log.warning(
                "--overwrite is ignored: this job was requeued (SLURM_RESTART_COUNT is \(count)), and it continues its earlier work"
            )
            return false
        }
        if let count = environment["SLURM_ARRAY_TASK_COUNT"].flatMap({ Int($0) }), count > 1 {
            throw UsageError(
                "--overwrite",
                "cannot be given to the tasks of an array (SLURM_ARRAY_TASK_COUNT is \(count)): each task would remove the results of the others; leave out --overwrite, and remove the old results from \(flags.output.directory) before you submit the array, or give another --save_dir"
            )
        }
        return true
    }

    /// Seconds that a worker may be stopped (SIGSTOP) before the parent kills it.
    private var stopLimit: Int {
        environment["SAE_EXTRACT_STOPPED_SECONDS"].flatMap { Int($0) }.map { max(1, $0) } ?? 60
    }

    // MARK: The end

    private func finish(
        _ ends: [WorkerEnd], _ plan: RunPlan, _ state: StateFolder, _ manifest: RunManifest,
        _ progress: RunProgress, _ seconds: Double, _ control: StopControl, rankSource: String?
    ) -> Never {
        let failures = ends.compactMap { end -> (status: Int32?, message: [String])? in
            if case .failed(let status, let message) = end { (status, message) } else { nil }
        }
        let isStopped = ends.contains(.stopped)
        var outcome: RunOutcome = failures.isEmpty ? (isStopped ? .stopped : .done) : .failed
        var isComplete = false
        do {
            isComplete = try state.finish(plan.files)
            if outcome == .done, !isComplete {
                // A single rank must have the files of all authors. One of several ranks must have the files of the
                // authors that its workers have completed.
                let authors =
                    plan.placement.worldSize == 1
                    ? Array(plan.authors.indices) : progress.authors.sorted()
                let missing = try state.missing(plan.files, authors: authors)
                if !missing.isEmpty {
                    outcome = .failed
                    try manifest.write(outcome)
                    throw MissingFilesError(saveDirectory: plan.saveDirectory, names: missing)
                }
            }
            try manifest.write(outcome)
        } catch {
            guard !failures.isEmpty else { ExitStatus(for: error).exit(saying: error) }
            log.warning("\(error)")
        }
        if outcome == .done {
            let rate =
                progress.tokens > 0
                ? ", \(decimals(Double(progress.tokens) / max(progress.modelSeconds, 1e-9), 1)) tokens/s in the model and SAEs"
                : ""
            let rest =
                isComplete
                ? ""
                : "; the authors of other ranks are not complete yet (if all ranks have ended, check that --workers is the same for all of them)"
            log.info(
                "\(counted(progress.authors.count, "author")), \(counted(progress.tokens, "token")) computed\(rate), \(decimals(seconds, 1)) s in all; results in \(plan.saveDirectory)\(rest)"
            )
            // Written at any --log_level, because other authors are missing if a rank was started by mistake.
            if let rankSource,
                let line = RunInvocation.lastLine(plan, rankSource, isComplete: isComplete)
            {
                writeErrorLine(line)
            }
            _exit(0)
        }
        // Written at any --log_level, so that the user learns how to continue the run.
        let isKept = state.isInPlace
        let done =
            isKept
            ? "\(progress.batches == 1 ? "1 batch was" : "\(progress.batches) batches were") computed in \(decimals(seconds, 1)) s and \(progress.batches == 1 ? "is" : "are") kept; \(advice)"
            : "another process has removed the computed batches (--overwrite); \(advice)"
        guard let first = failures.first else {
            let name =
                control.signal.map { "by \(StopSignals.name($0))" } ?? "by a signal to a worker"
            writeErrorLine("stopped \(name): \(done)")
            _exit(ExitStatus.stopped.rawValue)
        }
        for failure in failures { Console.shared.write(failure.message.prefixed(by: "Error: ")) }
        let isRefused = failures.contains { $0.status == ExitStatus.otherConfiguration.rawValue }
        if progress.batches > 0 || failures.count < ends.count, !isRefused, isKept,
            (try? state.hasResults()) == true
        {
            writeErrorLine(done)
        }
        // If every worker failed with the same status, the program exits with that status; otherwise with 1.
        let isCommon =
            failures.count == ends.count && failures.allSatisfy { $0.status == first.status }
        _exit(
            isCommon
                ? first.status ?? ExitStatus.workerFailed.rawValue
                : ExitStatus.workerFailed.rawValue)
    }

    /// Returns a line that says how many of the authors this rank computed, or nil if there is only one rank.
    private static func lastLine(_ plan: RunPlan, _ source: String, isComplete: Bool) -> String? {
        guard plan.placement.worldSize > 1 else { return nil }
        let count = plan.authors.count
        let shares = plan.ranks.flatMap {
            AuthorShare.shares(rank: $0, worldSize: plan.worldSize, authorCount: count)
        }
        let authors = Set(shares.map(\.number)).count
        let part = shares.contains { $0.parts > 1 } ? "a part of " : ""
        return
            "rank \(plan.placement.rank) of \(plan.placement.worldSize) (\(source)) has \(part)\(authors) of \(count) authors; "
            + (isComplete ? "all \(count) are complete" : "the other ranks have the rest")
    }

    private var advice: String {
        let changes = flags.output.isOverwriting ? " without --overwrite" : ""
        return "run the same command again\(changes) to continue"
    }
}
