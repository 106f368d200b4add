// The flags for devices, processes, progress and the log.

import ArgumentParser
import Logging
import Planning
import Tensors

/// The flags for devices, processes, progress and the log.
struct ExecutionFlags: ParsableArguments {
    @Option(
        name: .customLong("batch_size"),
        help: ArgumentHelp(
            "Documents per forward pass; auto: about 1,000 tokens on the CPU; on CUDA up to 16,384, by the memory of the device. (default: 2 on the CPU, auto on CUDA)",
            valueName: "n|auto"))
    var batchSize: BatchSize?

    @Option(
        name: .customLong("device"),
        help: ArgumentHelp(
            "Where to compute; auto: on CUDA if there is an NVIDIA driver, otherwise on the CPU.",
            valueName: "device"))
    var device = RunOptions().device

    @Option(
        name: .customLong("dtype"),
        help: ArgumentHelp(
            "float32: results faithful to float32; bfloat16: operands of products are rounded to bfloat16, which is faster on CUDA and on processors with AVX-512 BF16.",
            valueName: "type"))
    var precision = RunOptions().precision

    @Option(
        name: .customLong("threads"),
        help: ArgumentHelp(
            "Threads that a worker computes on. (default: cores that the process may use / workers)",
            valueName: "n"))
    var threads: Int?

    @Option(
        name: .customLong("workers"),
        help: ArgumentHelp(
            "Worker processes; each is one rank. (default: 1 on the CPU, one per device on CUDA)",
            valueName: "n"))
    var workers: Int?

    @Option(
        name: .customLong("rank"),
        help: ArgumentHelp(
            "For several separately started processes: the number of this one, from 0. (default: the launcher's: torchrun, srun, mpirun)",
            valueName: "n"))
    var rank: Int?

    @Option(
        name: .customLong("world_size"),
        help: ArgumentHelp(
            "For several separately started processes: how many there are.", valueName: "n"))
    var worldSize: Int?

    @Option(
        name: .customLong("progress"),
        help: ArgumentHelp(
            "How progress is shown: auto (bar on a terminal, otherwise plain), bar (a live line for each worker), plain (a line every 30 seconds), json (on standard output), none.",
            valueName: "style"))
    var progress = ProgressStyle.auto

    @Option(
        name: .customLong("log_level"),
        help: ArgumentHelp("Lowest level of the log on standard error.", valueName: "level"))
    var logLevel = Logger.Level.info
}
