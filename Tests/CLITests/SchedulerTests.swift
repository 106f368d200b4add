// Tests of rank and world size, which come from flags or from the variables that schedulers set.

import CUDA
import Planning
import TestSupport
import Testing

@testable import sae_extract

struct SchedulerTests {
    private func placement(
        _ environment: [String: String], rank: Int? = nil, worldSize: Int? = nil,
        slurmStep: String? = nil, process: Int32 = 77
    ) throws -> SchedulerPlacement {
        try SchedulerPlacement(
            rank: rank, worldSize: worldSize, environment: environment, slurmStep: { slurmStep },
            process: process)
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

    /// Checks that the tasks on one machine divide its devices, unless each task has been given its own devices.
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
        // On each machine, mpirun or srun has started torchrun as the only task. So torchrun's variables count.
        let all = Self.torchrun.merging(Self.openMPI) { a, _ in a }.merging(Self.srun) { a, _ in a }
        #expect(try placement(all).source == "torchrun")
        #expect(
            try placement(Self.srun.merging(["RANK": "0", "WORLD_SIZE": "1"]) { $1 }).source
                == "srun")
        let flags = try placement(all, rank: 0, worldSize: 2)
        #expect(flags.source == "--rank" && flags.placement.worldSize == 2)
        // Flags take precedence over the variables, also with a world size of 1.
        #expect(try placement(all, rank: 0, worldSize: 1).placement == RankPlacement())
        #expect(
            try placement([:])
                == SchedulerPlacement(
                    placement: RankPlacement(), source: nil, notes: [], warnings: []))
    }

    /// Checks the variables of each MPI launcher for rank, world size, local rank and local count.
    @Test(arguments: [
        ("PMI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
        ("PMI", "PMI_RANK", "PMI_SIZE", "PMI_LOCAL_RANK", "PMI_LOCAL_SIZE"),
        (
            "MVAPICH", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK",
            "MV2_COMM_WORLD_LOCAL_SIZE"
        ),
        ("PALS", "PALS_RANKID", "PMI_SIZE", "PALS_LOCAL_RANKID", "PALS_LOCAL_SIZE"),
        ("PALS", "PALS_RANKID", "PALS_SIZE", "PALS_LOCAL_RANKID", "PMI_LOCAL_SIZE"),
        (
            "jsrun", "JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_LOCAL_RANK",
            "JSM_NAMESPACE_LOCAL_SIZE"
        ),
        ("Horovod", "HOROVOD_RANK", "HOROVOD_SIZE", "HOROVOD_LOCAL_RANK", "HOROVOD_LOCAL_SIZE"),
        ("Platform MPI", "MPI_RANKID", "MPI_NRANKS", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    ])
    func launchersOfMPIPrograms(
        name: String, rank: String, world: String, localRank: String, localCount: String
    ) throws {
        var environment = [rank: "5", world: "8", localRank: "1", localCount: "4"]
        var found = try placement(environment)
        #expect(
            found.placement == RankPlacement(rank: 5, worldSize: 8, localCount: 4, localRank: 1))
        #expect(found.source == name && found.warnings == [])
        // srun has started one daemon of the launcher on each of two machines. The launcher's variables must count.
        let daemons = [
            "SLURM_STEP_ID": "3", "SLURM_PROCID": "1", "SLURM_NTASKS": "8",
            "SLURM_STEP_NUM_TASKS": "2", "SLURM_TASK_PID": "12",
        ]
        found = try placement(environment.merging(daemons) { $1 }, slurmStep: "3")
        #expect(found.source == name && found.placement.worldSize == 8 && found.warnings == [])
        environment[rank] = "five"
        let error = #expect(throws: UsageError.self) { try placement(environment) }
        #expect(error?.description.contains("\(rank)=five") == true, "\(String(describing: error))")
    }

    @Test func fluxSaysOnHowManyMachines() throws {
        let found = try placement([
            "FLUX_TASK_RANK": "3", "FLUX_JOB_SIZE": "7", "FLUX_JOB_NNODES": "2",
            "FLUX_TASK_LOCAL_ID": "3", "PMI_RANK": "3", "PMI_SIZE": "7",
        ])
        #expect(
            found.placement == RankPlacement(rank: 3, worldSize: 7, localCount: 4, localRank: 3))
        #expect(found.source == "Flux" && found.warnings == [])
    }

    // MARK: Missing variables

    /// Checks variables that do not tell the rank. The run must compute all authors and print one warning.
    @Test(arguments: [
        (
            ["RANK": "0", "WORLD_SIZE": "4"], "RANK is 0 and WORLD_SIZE is 4",
            "LOCAL_RANK is not set"
        ),
        (["RANK": "1"], "RANK is 1", "WORLD_SIZE is not set"),
        (
            ["PET_NODE_RANK": "1", "PET_NNODES": "4"], "PET_NODE_RANK is 1 and PET_NNODES is 4",
            "machines"
        ),
        (["PET_RANK": "0", "PET_NNODES": "4"], "PET_RANK is 0", "machines"),
        (["PMIX_RANK": "2", "PMIX_NAMESPACE": "x"], "PMIX_RANK is 2", "does not say how many"),
        (["PALS_RANKID": "2"], "PALS_RANKID is 2", "PALS_SIZE is not set"),
        (["ALPS_APP_PE": "2"], "ALPS_APP_PE is 2", "does not say how many"),
        (["XMPI_WORLD_RANK": "2", "XMPI_LOCAL_RANK": "2"], "XMPI_WORLD_RANK is 2", "not known"),
        (["WORLD_SIZE": "4"], "WORLD_SIZE is 4", "which of them"),
        (
            ["WORLD_SIZE": "8", "NODE_RANK": "1", "LOCAL_RANK": "3"], "WORLD_SIZE is 8",
            "which of them"
        ),
        (["PMI_SIZE": "4"], "PMI_SIZE is 4", "which of them"),
        (["PBS_TASKNUM": "2"], "PBS_TASKNUM is 2", "how many tasks"),
        (["LSF_PM_TASKID": "3"], "LSF_PM_TASKID is 3", "how many tasks"),
        (
            ["SM_HOSTS": "[\"algo-1\",\"algo-2\"]", "SM_CURRENT_HOST": "algo-2"],
            "SM_HOSTS is [\"algo-1\"", "every other host"
        ),
    ])
    func withoutASignAllAuthors(
        environment: [String: String], seen: String, reason: String
    ) throws {
        let found = try placement(environment)
        #expect(found.placement == RankPlacement() && found.source == nil)
        #expect(found.warnings.count == 1)
        for word in [seen, reason, "computes all authors", "--rank and --world_size"] {
            #expect(found.warnings.first?.contains(word) == true, "\(found.warnings)")
        }
        #expect(try placement(environment, rank: 1, worldSize: 4).warnings == [])
    }

    /// Checks variables that must cause no warning: they name only one task, or may have another meaning.
    @Test(arguments: [
        ["OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1", "PMIX_RANK": "0"],
        ["SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "PMIX_RANK": "0"],
        ["PET_NODE_RANK": "0", "PET_NNODES": "1"], ["RANK": "colonel"], ["LOCAL_RANK": "0"],
        ["WORLD_SIZE": "1"], ["PMI_SIZE": "1"], ["MY_RANK": "high"], ["WORLD_SIZE": "large"],
        ["PBS_TASKNUM": "1"], ["LSF_PM_TASKID": "1"], ["SM_HOSTS": "[\"algo-1\"]"],
        ["RANK": "", "WORLD_SIZE": "", "LOCAL_RANK": ""], ["PMI_RANK": " ", "PMI_SIZE": ""],
    ])
    func aTaskAloneIsAlone(environment: [String: String]) throws {
        #expect(try placement(environment) == SchedulerPlacement())
    }

    /// Checks the variables of two launchers that give this process different ranks. A warning must appear.
    @Test func contradictionsAreSaid() throws {
        let pmi = ["PMI_RANK": "0", "PMI_SIZE": "4"]
        let step = [
            "SLURM_STEP_ID": "0", "SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8",
            "SLURM_NTASKS": "8", "SLURM_TASK_PID": "77",
        ]
        var found = try placement(pmi.merging(step) { $1 }, process: 78)
        #expect(found.placement == RankPlacement() && found.source == nil)
        #expect(found.warnings.count == 1)
        #expect(found.warnings[0].contains("PMI_RANK is 0 and PMI_SIZE is 4"))
        #expect(found.warnings[0].contains("SLURM_PROCID is 5 of 8 tasks"))
        // SLURM_TASK_PID is the ID of this process, so srun has started this process.
        found = try placement(pmi.merging(step) { $1 })
        #expect(found.source == "srun" && found.placement.rank == 5)
        #expect(found.warnings.count == 1 && found.warnings[0].contains("unset the others"))
        found = try placement(Self.torchrun.merging(step) { $1 })
        #expect(found.source == "srun" && found.placement.worldSize == 8)
        // srun numbers tasks, here one on each machine, and torchrun numbers workers. So different numbers are
        // correct.
        let elastic = [
            "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "x",
        ]
        let machines = ["SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"]
        found = try placement(elastic.merging(machines) { $1 })
        #expect(found.source == "torchrun" && found.placement.rank == 1 && found.warnings == [])
        // First, variables left in a shell contradict srun's variables. Then they agree with srun's variables.
        found = try placement(step.merging(["RANK": "0", "WORLD_SIZE": "4"]) { $1 }, process: 78)
        #expect(found.source == "srun" && found.warnings.count == 1)
        found = try placement(step.merging(["RANK": "5", "WORLD_SIZE": "8"]) { $1 }, process: 78)
        #expect(found.source == "srun" && found.warnings == [])
    }

    // MARK: Slurm

    /// Checks a step that is smaller than its job but has the job's SLURM_NTASKS, as with `srun -E`.
    @Test func theStepsNumberOfTasksCounts() throws {
        let task = [
            "SLURM_STEP_ID": "1", "SLURM_NTASKS": "4", "SLURM_NPROCS": "4", "SLURM_PROCID": "1",
            "SLURM_LOCALID": "1", "SLURM_NODEID": "0", "SLURM_GTIDS": "0,1",
            "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2",
            "SLURM_TASKS_PER_NODE": "4",
        ]
        var found = try placement(task, slurmStep: "1")
        #expect(
            found.placement == RankPlacement(rank: 1, worldSize: 2, localCount: 2, localRank: 1))
        #expect(found.warnings.count == 1)
        #expect(
            found.warnings[0].contains("SLURM_NTASKS is 4")
                && found.warnings[0].contains("SLURM_STEP_NUM_TASKS"))
        #expect(try placement(task.merging(["SLURM_NTASKS": "2"]) { $1 }).warnings == [])
        // A batch script that was submitted from within a step still has variables of that step.
        let batch = ["SLURM_GTIDS": "0", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"]
        found = try placement(task.merging(batch) { $1 })
        #expect(found.placement == RankPlacement() && found.warnings.count == 1)
        // Both a task and a batch script may have these variables. The step's name, from Slurm's daemon, says which
        // it is.
        let wide = task.merging(batch) { $1 }.merging(["SLURM_STEP_TASKS_PER_NODE": "1(x2)"]) { $1 }
        #expect(try placement(wide, slurmStep: "0").source == "srun")
        for step in ["batch", "extern", "interactive"] {
            #expect(try placement(wide, slurmStep: step).placement == RankPlacement())
        }
    }

    @Test(arguments: [
        ("2(x3)", "2", 2), ("2(x2),1", "2", 1), ("3,2(x2),1", "3", 1), ("4", "0", 4),
        ("4", "1", nil), ("x", "0", nil),
    ])
    func tasksOfAMachine(text: String, node: String, count: Int?) {
        #expect(
            SlurmStep.tasksHere(["SLURM_STEP_TASKS_PER_NODE": text, "SLURM_NODEID": node]) == count)
    }

    /// Checks that the shell of `srun --pty`, and the processes started in that shell, do not count as tasks.
    @Test func aShellOnSrunsTerminalIsNotATask() throws {
        let found = try placement(Self.srun.merging(["SLURM_PTY_PORT": "4711"]) { $1 })
        #expect(found.placement == RankPlacement() && found.source == nil)
        #expect(found.warnings.count == 1 && found.warnings[0].contains("--pty"))
        // If mpirun runs in this shell, mpirun's variables count.
        let inner = ["SLURM_PTY_PORT": "4711"].merging(Self.openMPI) { $1 }
        #expect(try placement(Self.srun.merging(inner) { $1 }).source == "Open MPI")
    }

    /// Checks that a batch script does not count as a task, although it has a task's variables.
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
        for other in [
            ["PBS_ARRAY_INDEX": "3"], ["LSB_JOBINDEX": "3"], ["JOB_COMPLETION_INDEX": "0"],
        ] {
            #expect(try placement(other).notes.count == 1)
        }
        for none in [["LSB_JOBINDEX": "0"], ["SGE_TASK_ID": "undefined"]] {
            #expect(try placement(none).notes == [])
        }
        let found = try placement(array)
        #expect(found.placement == RankPlacement())
        #expect(found.notes.count == 1 && found.notes[0].contains("computes all authors"))
        // If the rank is known, no note must appear.
        #expect(try placement(array, rank: 3, worldSize: 8).notes == [])
        #expect(try placement(array.merging(Self.srun) { $1 }).notes == [])
    }

    @Test(arguments: [
        (["RANK": "8", "WORLD_SIZE": "8"], "RANK is 8"),
        (["RANK": "-1", "WORLD_SIZE": "8"], "RANK is -1"),
        (["RANK": "x", "WORLD_SIZE": "8"], "RANK=x"),
        (["OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "0"], "OMPI_COMM_WORLD_SIZE is 0"),
        (
            ["SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "2"],
            "SLURM_PROCID is 3"
        ),
        (["SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "2k"], "SLURM_NTASKS=2k"),
        (["PMIX_RANK": "first"], "PMIX_RANK=first"),
        (["FLUX_TASK_RANK": "-1"], "FLUX_TASK_RANK=-1"),
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
    }
}
