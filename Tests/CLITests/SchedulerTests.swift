// Rank and world, from flags and from what schedulers set.

import CUDA
import Extraction
import TestSupport
import Testing

@testable import sae_extract

struct SchedulerTests {
    private func placement(
        _ environment: [String: String], rank: Int? = nil, worldSize: Int? = nil
    ) throws -> SchedulerPlacement {
        try SchedulerPlacement(rank: rank, worldSize: worldSize, environment: environment)
    }

    private static let torchrun = [
        "RANK": "3", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "LOCAL_RANK": "3",
    ]
    private static let openMPI = [
        "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
        "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    ]
    private static let srun = [
        "SLURM_PROCID": "5", "SLURM_NTASKS": "6", "SLURM_STEP_ID": "0",
        "SLURM_STEP_TASKS_PER_NODE": "2(x3)", "SLURM_LOCALID": "1",
    ]

    /// Tasks of one machine divide its devices, unless each was bound to its own.
    @Test(arguments: [
        (4, 1, 0, [:], [0, 1, 2, 3]), (4, 4, 2, [:], [2]), (4, 2, 1, [:], [2, 3]),
        (1, 4, 3, [:], [0]), (3, 2, 1, [:], [1]), (2, 4, 3, [:], [1]),
        (2, 4, 3, ["SLURM_GPUS_ON_NODE": "8"], [0, 1]),
        (4, 2, 1, ["SLURM_GPUS_ON_NODE": "4"], [2, 3]),
    ])
    func devicesAreDivided(
        count: Int, tasks: Int, localRank: Int, environment: [String: String], own: [Int]
    ) {
        let devices = (0..<count).map {
            DeviceDescription(
                name: "", uuid: "", memory: 0, capability: [9, 0], token: "\($0)")
        }
        let share = DeviceDiscovery.share(
            devices,
            RankPlacement(
                rank: localRank, worldSize: tasks, localCount: tasks, localRank: localRank),
            environment: environment)
        #expect(share.devices.map(\.token) == own.map { "\($0)" })
        #expect(
            (share.note == nil)
                == (count % tasks == 0 || count == 1 || environment == ["SLURM_GPUS_ON_NODE": "8"]))
    }

    @Test func eachIsUnderstood() throws {
        func check(
            _ environment: [String: String], _ rank: Int, _ world: Int, _ local: Int,
            _ localRank: Int, _ source: String
        ) throws {
            let found = try placement(environment)
            #expect(
                found.placement
                    == RankPlacement(
                        rank: rank, worldSize: world, localCount: local, localRank: localRank))
            #expect(found.source == source && found.warnings == [] && found.notes == [])
        }
        try check(Self.torchrun, 3, 8, 4, 3, "torchrun")
        try check(Self.openMPI, 1, 2, 2, 1, "Open MPI")
        try check(Self.srun, 5, 6, 2, 1, "srun")
        // In this order.
        let all = Self.torchrun.merging(Self.openMPI) { a, _ in a }.merging(Self.srun) { a, _ in a }
        #expect(try placement(all).source == "torchrun")
        #expect(try placement(all.merging(["WORLD_SIZE": "1"]) { $1 }).source == "Open MPI")
        let flags = try placement(all, rank: 0, worldSize: 2)
        #expect(flags.source == "--rank" && flags.placement.worldSize == 2)
        // Asked for by flags, a world of one is one.
        #expect(try placement(all, rank: 0, worldSize: 1).placement == RankPlacement())
        #expect(
            try placement([:])
                == SchedulerPlacement(
                    placement: RankPlacement(), source: nil, notes: [], warnings: []))
    }

    /// `sbatch --ntasks=4` sets these for its one process; so do interactive shells.
    @Test(arguments: [nil, "4294967291", "4294967290"])
    func aBatchScriptIsNotATask(step: String?) throws {
        var environment = ["SLURM_PROCID": "0", "SLURM_NTASKS": "4"]
        environment["SLURM_STEP_ID"] = step
        let found = try placement(environment)
        #expect(found.placement == RankPlacement() && found.source == nil)
        #expect(found.warnings.count == 1)
        #expect(
            found.warnings[0].contains("SLURM_NTASKS is 4") && found.warnings[0].contains("srun"))
        environment["SLURM_NTASKS"] = "1"
        #expect(try placement(environment).warnings == [])
    }

    @Test func anArrayIsNotRanks() throws {
        let array = ["SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"]
        let found = try placement(array)
        #expect(found.placement == RankPlacement())
        #expect(found.notes.count == 1 && found.notes[0].contains("does all authors"))
        // With ranks of its own there is nothing to say.
        #expect(try placement(array, rank: 3, worldSize: 8).notes == [])
        #expect(try placement(array.merging(Self.srun) { $1 }).notes == [])
    }

    @Test(arguments: [
        (["RANK": "8", "WORLD_SIZE": "8"], "RANK is 8"),
        (["RANK": "-1", "WORLD_SIZE": "8"], "RANK is -1"),
        (["RANK": "x", "WORLD_SIZE": "8"], "RANK=x"),
        (["OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "0"], "OMPI_COMM_WORLD_SIZE is 0"),
    ])
    func nonsenseIsRefused(environment: [String: String], mention: String) throws {
        let error = #expect(throws: UsageError.self) { try placement(environment) }
        #expect(error?.description.contains(mention) == true, "\(String(describing: error))")
    }

    @Test func flagsGoTogether() throws {
        #expect(throws: UsageError.self) { try placement([:], rank: 0) }
        #expect(throws: UsageError.self) { try placement([:], worldSize: 2) }
        #expect(throws: UsageError.self) { try placement([:], rank: 2, worldSize: 2) }
        #expect(throws: UsageError.self) { try placement([:], rank: 0, worldSize: 0) }
        // One of torchrun's two, from whatever program, is not torchrun.
        #expect(try placement(["RANK": "1"]).placement == RankPlacement())
    }
}
