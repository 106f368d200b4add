// The rank and the world size that the variables of one launcher give this process.

import Planning

/// A rank and a world size for this process, from the variables of one launcher.
struct RankClaim {
    /// The launcher's name.
    let launcher: String
    /// The rank, the world size, and the number of this task among the tasks on this machine.
    let placement: RankPlacement
    /// The variables in words, for messages: "PMI_RANK is 3 and PMI_SIZE is 4".
    let words: String
    /// Whether the variables prove that this launcher has started this process.
    var isCertain = false

    /// Reads the variables of `launcher`. Returns nil if rank or world size is not set. Throws `UsageError` if the
    /// values are not numbers or contradict each other.
    init?(_ launcher: JobLauncher, _ environment: [String: String]) throws {
        guard let rank = environment[launcher.rank],
            let worldName = launcher.worldSize.first(where: { environment[$0] != nil })
        else { return nil }
        self.launcher = launcher.name
        let worldSize = environment[worldName]!
        let machines = launcher.machineCount.flatMap { environment[$0] }.flatMap { Int($0) } ?? 0
        let evenly = machines > 0 ? Int(worldSize).map { ($0 + machines - 1) / machines } : nil
        placement = try RankClaim.placement(
            launcher.name, rank: (launcher.rank, rank), worldSize: (worldName, worldSize),
            localCount: RankClaim.number(environment, launcher.localCount) ?? evenly,
            localRank: RankClaim.number(environment, launcher.localRank))
        words = "\(launcher.rank) is \(rank) and \(worldName) is \(worldSize)"
        isCertain =
            launcher.name == "torchrun" && environment[JobLauncher.torchrunIdentifier] != nil
    }

    /// Makes a claim from values that the caller has read.
    init(launcher: String, placement: RankPlacement, words: String, isCertain: Bool) {
        (self.launcher, self.placement) = (launcher, placement)
        (self.words, self.isCertain) = (words, isCertain)
    }

    /// Returns the value of the first variable of `names` that is set. Nil if no variable is set, or if the value is
    /// not a whole number of at least 0.
    private static func number(_ environment: [String: String], _ names: [String]) -> Int? {
        names.lazy.compactMap { environment[$0] }.first.flatMap { Int($0) }
            .flatMap { $0 >= 0 ? $0 : nil }
    }

    /// Returns the placement from the variables' values. Throws `UsageError` if they are invalid.
    static func placement(
        _ launcher: String, rank: (name: String, value: String),
        worldSize: (name: String, value: String), localCount: Int?, localRank: Int?
    ) throws -> RankPlacement {
        // With a world size of 1, this process computes all authors, so the rank is not read.
        if worldSize.value == "1" { return RankPlacement() }
        guard let number = Int(rank.value), let count = Int(worldSize.value) else {
            throw UsageError(
                "--rank",
                "\(rank.name)=\(rank.value) and \(worldSize.name)=\(worldSize.value) (\(launcher)) are not both whole numbers; correct them or give --rank and --world_size"
            )
        }
        return try placement(
            rank: (rank.name, number), worldSize: (worldSize.name, count),
            localCount: localCount, localRank: localRank)
    }

    /// Returns the placement. Throws `UsageError` if rank and world size contradict each other.
    static func placement(
        rank: (name: String, value: Int), worldSize: (name: String, value: Int),
        localCount: Int? = nil, localRank: Int? = nil
    ) throws -> RankPlacement {
        guard worldSize.value >= 1 else {
            throw UsageError(
                "--world_size", "\(worldSize.name) is \(worldSize.value); give at least 1")
        }
        guard (0..<worldSize.value).contains(rank.value) else {
            throw UsageError(
                "--rank",
                "\(rank.name) is \(rank.value), which is not in 0 to \(worldSize.value - 1) (\(worldSize.name) is \(worldSize.value)); ranks count from 0"
            )
        }
        return RankPlacement(
            rank: rank.value, worldSize: worldSize.value,
            localCount: min(max(1, localCount ?? 1), worldSize.value), localRank: localRank ?? 0)
    }
}
