// The rank of this process, from its flags or from the launcher that started it.

import Glibc
import Planning

/// The rank and the world size that the flags or a launcher's variables give, and messages about them.
struct SchedulerPlacement: Equatable {
    var placement = RankPlacement()
    /// Where rank and world size come from: "--rank", "torchrun", … Nil: this process is the only one.
    var source: String?
    /// Messages that may help a user.
    var notes: [String] = []
    /// Messages about settings that the user probably does not want.
    var warnings: [String] = []
}

extension SchedulerPlacement {
    /// Reads the flags, otherwise the launchers' variables. A world size of 1 counts as no launcher.
    ///
    /// If a process computes all authors although other ranks exist, time is lost. If it leaves authors to ranks that do not
    /// exist, these authors are lost. So this process computes all authors, with a warning, if nothing shows that it was started
    /// as a task, or if launchers contradict each other.
    ///
    /// `slurmStep` and `process` are the parameters of `SlurmStep`. Throws `UsageError`.
    init(
        rank: Int?, worldSize: Int?, environment: [String: String],
        slurmStep: () -> String? = SlurmStep.daemonAbove, process: Int32 = getpid()
    ) throws {
        if rank != nil || worldSize != nil {
            guard let rank, let worldSize else {
                throw UsageError(
                    rank == nil ? "--rank" : "--world_size",
                    "is missing: --rank and --world_size go together")
            }
            placement = try TaskClaim.placement(
                rank: ("--rank", rank), worldSize: ("--world_size", worldSize))
            source = "--rank"
            return
        }
        // Templates and containers set variables to white space or nothing. These count as not set.
        let environment = environment.filter { !$0.value.allSatisfy(\.isWhitespace) }
        var claims: [TaskClaim] = []
        var unsigned: TaskClaim?
        for launcher in TaskLauncher.all {
            guard let claim = try TaskClaim(launcher, environment) else { continue }
            if launcher.signs.isEmpty || launcher.signs.contains(where: { environment[$0] != nil })
            {
                claims.append(claim)
            } else if claim.placement.worldSize > 1 {
                unsigned = claim
            }
        }
        let slurm = try SlurmStep(environment, ancestor: slurmStep, process: process)
        if let claim = slurm.claim { claims.append(claim) }

        let several = claims.filter { $0.placement.worldSize > 1 }
        if let first = several.first {
            take(first, of: several)
            if source == "srun", let warning = slurm.warning { warnings.append(warning) }
            if source != nil, let unsigned, unsigned.placement.rank != placement.rank {
                warnings.append(
                    "\(unsigned.words), but LOCAL_RANK is not set, so torchrun did not set them and they are ignored; unset them"
                )
            }
            return
        }
        if let warning = try warningOfRanks(
            environment, unsigned, slurm, hasClaim: !claims.isEmpty)
        {
            warnings.append(warning)
        }
        for name in TaskLauncher.arrayIndices {
            guard let task = environment[name], let number = Int(task),
                number > 0 || name != "LSB_JOBINDEX"
            else { continue }
            notes.append(
                "array task \(task) without --rank and --world_size: this task computes all authors (right for an array over layers)"
            )
            return
        }
    }

    /// Takes the placement of `first`, the innermost launcher, unless another launcher with at least as many tasks contradicts
    /// it. A launcher with fewer tasks may have started the innermost one, one task per machine. If srun or torchrun has
    /// certainly started this process, the variables of other launchers are leftovers.
    private mutating func take(_ first: TaskClaim, of claims: [TaskClaim]) {
        func contradicts(_ a: TaskClaim, _ b: TaskClaim) -> Bool {
            (a.placement.rank, a.placement.worldSize) != (b.placement.rank, b.placement.worldSize)
        }
        let other = claims.first {
            contradicts($0, first) && $0.placement.worldSize >= first.placement.worldSize
        }
        if let direct = claims.last, direct.launcher == "srun", direct.isCertain {
            (placement, source) = (direct.placement, direct.launcher)
            if let rest = claims.first(where: { contradicts($0, direct) }) {
                warnings.append(
                    "\(rest.words) (\(rest.launcher)), but srun has started this process, as task \(placement.rank) of \(placement.worldSize): srun's numbers are used; unset the others"
                )
            }
        } else if let other, !first.isCertain {
            warnings.append(
                "\(first.words) (\(first.launcher)), but \(other.words) (\(other.launcher)): launchers contradict each other, so this process computes all authors. To share them out, give --rank and --world_size; otherwise unset the variables that do not apply"
            )
        } else {
            (placement, source) = (first.placement, first.launcher)
        }
    }

    /// Returns a warning if no launcher has numbered this process but some variables look as if one had. Throws `UsageError` if a
    /// launcher's rank is not a number.
    private func warningOfRanks(
        _ environment: [String: String], _ unsigned: TaskClaim?, _ slurm: SlurmStep, hasClaim: Bool
    ) throws -> String? {
        let alone = "it computes all authors"
        if let unsigned {
            return
                "\(unsigned.words), but nothing says that torchrun has started this process (LOCAL_RANK is not set): \(alone). To share them out, start it with torchrun, or give --rank and --world_size; otherwise unset both"
        }
        if let tasks = slurm.askedTasks {
            return
                "SLURM_NTASKS is \(tasks), but \(slurm.reason): \(alone). To share them out, start it with srun, or give --rank and --world_size"
        }
        // A launcher that runs one task explains the variables of the others.
        guard !hasClaim else { return nil }
        for launcher in TaskLauncher.all {
            guard let rank = environment[launcher.rank] else { continue }
            guard let number = Int(rank), number >= 0 else {
                // RANK is such a common name that its value may mean anything.
                guard launcher.signs.isEmpty else { continue }
                throw UsageError(
                    "--rank",
                    "\(launcher.rank)=\(rank) (\(launcher.name)) is not a whole number of at least 0; correct it or give --rank and --world_size"
                )
            }
            return
                "\(launcher.rank) is \(rank), but \(launcher.worldSize.first.map { "\($0) is not set" } ?? "\(launcher.name) does not say how many tasks there are"): \(alone). To share them out, give --rank and --world_size"
        }
        for (rank, count) in TaskLauncher.machines {
            guard let node = environment[rank].flatMap({ Int($0) }),
                let nodes = environment[count], nodes != "1"
            else { continue }
            return
                "\(rank) is \(node) and \(count) is \(nodes), which number machines, not processes: \(alone). To share them out, start it with torchrun, or give --rank and --world_size"
        }
        for name in TaskLauncher.all.flatMap(\.worldSize) {
            guard let count = environment[name].flatMap({ Int($0) }), count > 1 else { continue }
            return
                "\(name) is \(count), but nothing says which of them this process is: \(alone). To share them out, give --rank and --world_size"
        }
        if let hosts = environment["SM_HOSTS"], hosts.contains(",") {
            return
                "SM_HOSTS is \(hosts): \(alone), as on every other host. To share them out, give --rank and --world_size"
        }
        // The variables of unknown launchers.
        if let name = TaskLauncher.batchTasks.first(where: {
            environment[$0].flatMap { Int($0) } ?? 0 > 1
        }) {
            return
                "\(name) is \(environment[name]!), but nothing says how many tasks there are: \(alone). To share them out, give --rank and --world_size"
        }
        let name = environment.keys.sorted().first { name in
            (name.hasSuffix("_RANK") || name.hasSuffix("_RANKID"))
                && !["LOCAL", "NODE", "GROUP", "ROLE"].contains(where: name.contains)
                && environment[name].flatMap { UInt32($0) } != nil
        }
        return name.map {
            "\($0) is \(environment[$0]!), of a launcher that is not known: \(alone). To share them out, give --rank and --world_size"
        }
    }
}
