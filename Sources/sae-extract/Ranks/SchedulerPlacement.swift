// The rank of this process, from its flags or from the launcher that started it.

import Glibc
import Planning

/// The rank and the world size of this process, from flags or from a launcher's variables, with messages about them.
struct SchedulerPlacement: Equatable {
    var placement = RankPlacement()
    /// Where rank and world size come from: "--rank", "torchrun", … Nil if no placement was taken.
    var source: String?
    /// Messages that are logged at level info.
    var notes: [String] = []
    /// Messages that are logged as warnings: the settings are probably not what the user intended.
    var warnings: [String] = []
}

extension SchedulerPlacement {
    /// Reads the flags. If they are absent, reads the variables of launchers, but ignores a launcher with a world
    /// size of 1.
    ///
    /// In two cases, this process computes all authors and warns. First, nothing shows that a launcher started this
    /// process as a task. Second, launchers contradict each other. A wrong guess then costs only time. With a wrong
    /// rank, authors would be missing.
    ///
    /// `slurmStep` and `process` are passed to `SlurmStep`. Throws `UsageError`.
    init(
        rank: Int?, worldSize: Int?, environment: [String: String],
        slurmStep: () -> String? = SlurmStep.daemonAbove, process: Int32 = getpid()
    ) throws {
        if rank != nil || worldSize != nil {
            guard let rank, let worldSize else {
                throw UsageError(
                    rank == nil ? "--rank" : "--world_size",
                    "is missing; give both --rank and --world_size")
            }
            placement = try RankClaim.placement(
                rank: ("--rank", rank), worldSize: ("--world_size", worldSize))
            source = "--rank"
            return
        }
        // Empty or blank variables, which some job templates and containers set, count as not set.
        let environment = environment.filter { !$0.value.allSatisfy(\.isWhitespace) }
        var claims: [RankClaim] = []
        var unsigned: RankClaim?
        for launcher in JobLauncher.all {
            guard let claim = try RankClaim(launcher, environment) else { continue }
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
                    "\(unsigned.words), but LOCAL_RANK is not set, so torchrun has not set them; they are ignored; unset them"
                )
            }
            return
        }
        if let warning = try warningOfRanks(
            environment, unsigned, slurm, hasClaim: !claims.isEmpty)
        {
            warnings.append(warning)
        }
        for name in JobLauncher.arrayIndices {
            guard let task = environment[name], let number = Int(task),
                number > 0 || name != "LSB_JOBINDEX"
            else { continue }
            notes.append(
                "array task \(task) without --rank and --world_size: this task computes all authors, which is correct only if each array task has other layers or settings"
            )
            return
        }
    }

    /// Chooses the placement among the `claims` of several launchers. `first` is the claim of the innermost launcher.
    /// Two claims contradict each other if their rank or their world size differs. In this order:
    /// 1. If srun has certainly started this process, takes srun's placement. The other variables are leftovers.
    /// 2. If torchrun has certainly started this process, takes torchrun's placement.
    /// 3. If a launcher with at least as many tasks contradicts `first`, takes no placement: this process computes
    ///    all authors.
    /// 4. Otherwise takes the placement of `first`. A launcher with fewer tasks is harmless: mpirun may have started
    ///    one torchrun on each machine.
    private mutating func take(_ first: RankClaim, of claims: [RankClaim]) {
        func contradicts(_ a: RankClaim, _ b: RankClaim) -> Bool {
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
                "\(first.words) (\(first.launcher)), but \(other.words) (\(other.launcher)): launchers contradict each other, so this process computes all authors. To divide the authors among processes, give --rank and --world_size; otherwise unset the variables that do not apply"
            )
        } else {
            (placement, source) = (first.placement, first.launcher)
        }
    }

    /// Returns a warning if no launcher gives this process a rank, but some variables suggest that a launcher started
    /// it. Throws `UsageError` if a launcher's rank is not a number.
    private func warningOfRanks(
        _ environment: [String: String], _ unsigned: RankClaim?, _ slurm: SlurmStep, hasClaim: Bool
    ) throws -> String? {
        let alone = "this process computes all authors"
        if let unsigned {
            return
                "\(unsigned.words), but nothing says that torchrun has started this process (LOCAL_RANK is not set): \(alone). To divide the authors among processes, start the program with torchrun, or give --rank and --world_size; otherwise unset both"
        }
        if let tasks = slurm.askedTasks {
            return
                "SLURM_NTASKS is \(tasks), but \(slurm.reason): \(alone). To divide the authors among processes, start the program with srun, or give --rank and --world_size"
        }
        // If a launcher runs this process as its only task, the variables of other launchers cause no warning.
        guard !hasClaim else { return nil }
        for launcher in JobLauncher.all {
            guard let rank = environment[launcher.rank] else { continue }
            guard let number = Int(rank), number >= 0 else {
                // An invalid RANK is ignored. It is a common name, which not only torchrun uses.
                guard launcher.signs.isEmpty else { continue }
                throw UsageError(
                    "--rank",
                    "\(launcher.rank)=\(rank) (\(launcher.name)) is not a whole number of at least 0; correct it or give --rank and --world_size"
                )
            }
            return
                "\(launcher.rank) is \(rank), but \(launcher.worldSize.first.map { "\($0) is not set" } ?? "\(launcher.name) does not say how many tasks there are"): \(alone). To divide the authors among processes, give --rank and --world_size"
        }
        for (rank, count) in JobLauncher.machines {
            guard let node = environment[rank].flatMap({ Int($0) }),
                let nodes = environment[count], nodes != "1"
            else { continue }
            return
                "\(rank) is \(node) and \(count) is \(nodes), which number machines, not processes: \(alone). To divide the authors among processes, start the program with torchrun, or give --rank and --world_size"
        }
        for name in JobLauncher.all.flatMap(\.worldSize) {
            guard let count = environment[name].flatMap({ Int($0) }), count > 1 else { continue }
            return
                "\(name) is \(count), but nothing says which of them this process is: \(alone). To divide the authors among processes, give --rank and --world_size"
        }
        if let hosts = environment["SM_HOSTS"], hosts.contains(",") {
            return
                "SM_HOSTS is \(hosts): \(alone), and so does the process on every other host. To divide the authors among processes, give --rank and --world_size"
        }
        // Variables of launchers that are not in `JobLauncher.all`.
        if let name = JobLauncher.batchTasks.first(where: {
            environment[$0].flatMap { Int($0) } ?? 0 > 1
        }) {
            return
                "\(name) is \(environment[name]!), but nothing says how many tasks there are: \(alone). To divide the authors among processes, give --rank and --world_size"
        }
        let name = environment.keys.sorted().first { name in
            (name.hasSuffix("_RANK") || name.hasSuffix("_RANKID"))
                && !["LOCAL", "NODE", "GROUP", "ROLE"].contains(where: name.contains)
                && environment[name].flatMap { UInt32($0) } != nil
        }
        return name.map {
            "\($0) is \(environment[$0]!), but its launcher is not known: \(alone). To divide the authors among processes, give --rank and --world_size"
        }
    }
}
