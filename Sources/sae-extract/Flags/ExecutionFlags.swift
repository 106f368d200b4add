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
            "Maximum number of documents per forward pass. auto: limits tokens instead, to about 1,000 on the CPU and at most 16,384 on CUDA, depending on the device's memory. (default: 2 on the CPU, auto on CUDA)",
            valueName: "n|auto"))
    var batchSize: BatchSize?

    @Option(
        name: .customLong("device"),
        help: ArgumentHelp(
            "Where to compute. auto: on CUDA if an NVIDIA driver is installed, otherwise on the CPU.",
            valueName: "device"))
    var device = RunOptions().device

    @Option(
        name: .customLong("dtype"),
        help: ArgumentHelp(
            "Precision of matrix products. float32: as accurate as float32. bfloat16: factors are rounded to bfloat16, which is faster on CUDA and on processors with AVX-512 BF16.",
            valueName: "type"))
    var precision = RunOptions().precision

    @Option(
        name: .customLong("threads"),
        help: ArgumentHelp(
            "Number of computing threads of each worker. (default: cores that the process may use, divided by the number of workers)",
            valueName: "n"))
    var threads: Int?

    @Option(
        name: .customLong("workers"),
        help: ArgumentHelp(
            "Number of worker processes; each is one rank. (default: 1 on the CPU, one per device on CUDA)",
            valueName: "n"))
    var workers: Int?

    @Option(
        name: .customLong("rank"),
        help: ArgumentHelp(
            "If you start several processes for one run: the number of this process, from 0. (default: from the launcher, e.g. torchrun, srun or mpirun)",
            valueName: "n"))
    var rank: Int?

    @Option(
        name: .customLong("world_size"),
        help: ArgumentHelp(
            "If you start several processes for one run: how many processes you start.",
            valueName: "n"))
    var worldSize: Int?

    @Option(
        name: .customLong("progress"),
        help: ArgumentHelp(
            "How progress is shown: auto (bar on a terminal, otherwise plain), bar (a live line for each worker), plain (a line every 30 seconds), json (JSON objects on standard output), none.",
            valueName: "style"))
    var progress = ProgressStyle.auto

    @Option(
        name: .customLong("log_level"),
        help: ArgumentHelp(
            "Lowest level of messages that are logged to standard error.", valueName: "level"))
    var logLevel = Logger.Level.info
}
