// Which devices there are and which of them this invocation's workers get.

import CUDA
import Files
import FoundationEssentials
import Glibc
import Logging
import Planning
import Subprocess
import SystemPackage
import Tensors

/// Why the devices that are there cannot be used.
struct DeviceError: Error, CustomStringConvertible {
    let description: String
}

/// Asks for devices in a child process, so that this one never initialises CUDA: workers started from a process that
/// has cannot use it.
struct DeviceDiscovery {
    /// The argument that makes a process the one that is asked.
    static let argument = "__devices"

    private let environment: [String: String]

    init(environment: [String: String]) {
        self.environment = environment
    }

    /// The child: writes what it finds as JSON and ends.
    static func main() -> Never {
        let environment = ProcessInfo.processInfo.environment
        // Whoever asked may be gone before a driver that hangs comes back.
        alarm(UInt32(DeviceDiscovery(environment: environment).patience + 5))
        let probe = DeviceProbe(environment: environment)
        if let data = try? JSONEncoder().encode(probe) {
            try? printJSON(Array(data))
        }
        // The driver's own end is no concern of ours.
        _exit(0)
    }

    // MARK: Asking

    /// Seconds that a driver gets to answer; one that has slept for long takes several for each of its devices.
    private var patience: Int {
        environment["SAE_EXTRACT_PROBE_SECONDS"].flatMap { Int($0) }.map { min(max(1, $0), 86_400) }
            ?? 120
    }

    /// What there is. Of slices of devices (MIG) a process sees the first alone, so each is asked for by itself.
    private func probe() async -> DeviceProbe {
        let tokens = DeviceProbe.tokens(environment["CUDA_VISIBLE_DEVICES"] ?? "")
        guard tokens.count > 1, tokens.contains(where: { $0.hasPrefix("MIG-") }) else {
            return await ask([:])
        }
        var all = DeviceProbe()
        for token in tokens {
            let one = await ask(["CUDA_VISIBLE_DEVICES": token])
            all.libraries = one.libraries
            guard one.problem == nil else {
                // As the driver does with other devices: the first that is none ends the list.
                if all.devices.isEmpty { all.problem = one.problem }
                break
            }
            all.devices += one.devices
        }
        return all
    }

    private func ask(_ changes: [String: String?]) async -> DeviceProbe {
        var failed = DeviceProbe()
        // Whichever comes first. A process that hangs within the driver cannot even be killed, and is left behind.
        typealias Answer = Result<(text: String, status: TerminationStatus), any Error>
        let (answers, answer) = AsyncStream<Answer?>.makeStream()
        let asking = Task {
            do {
                let result = try await Subprocess.run(
                    .path("/proc/self/exe"),
                    arguments: Arguments(
                        executablePathOverride: "sae-extract",
                        remainingValues: [DeviceDiscovery.argument]),
                    environment: Launcher.inherited(with: changes), input: .none,
                    output: .string(limit: 1 << 20, encoding: UTF8.self), error: .discarded)
                answer.yield(.success((result.standardOutput, result.terminationStatus)))
            } catch {
                answer.yield(.failure(error))
            }
        }
        let waiting = Task { [patience] in
            try? await Task.sleep(for: .seconds(patience))
            answer.yield(nil)
        }
        defer {
            asking.cancel()
            waiting.cancel()
        }
        var iterator = answers.makeAsyncIterator()
        switch await iterator.next() ?? nil {
        case nil:
            failed.problem =
                "the driver has not answered for \(patience) seconds (SAE_EXTRACT_PROBE_SECONDS); see whether nvidia-smi does"
        case .failure(let error):
            failed.problem = "devices cannot be asked for: \(error)"
        case .success(let (text, status)):
            if let probe = try? JSONDecoder().decode(DeviceProbe.self, from: Data(text.utf8)) {
                return probe
            }
            failed.problem =
                "the driver ended the process that asked it (\(status)); see whether nvidia-smi works"
        }
        return failed
    }

    // MARK: Choosing

    /// The devices of this invocation's workers, one each; none where the CPU is to be used. Throws `UsageError` and
    /// `DeviceError`.
    func devices(for options: RunOptions, log: Logger) async throws -> [DeviceDescription] {
        guard options.device != .cpu else {
            warnOfSlowness(options, log)
            return []
        }
        let probe = await probe()
        if options.device == .auto, probe.problem != nil, isWithoutDriver(probe) {
            warnOfSlowness(options, log)
            return []
        }
        if let problem = probe.problem { throw DeviceError(description: problem) }
        let (own, note) = DeviceDiscovery.share(
            probe.devices, options.placement, environment: environment)
        if let note { log.warning("\(note)") }
        let count = options.workers ?? own.count
        guard count <= own.count else {
            throw UsageError(
                "--workers",
                "\(count) are more than the \(own.count) CUDA \(own.count == 1 ? "device" : "devices") of this invocation; give fewer, or --device cpu"
            )
        }
        for device in own.prefix(count) where device.capability.lexicographicallyPrecedes([8, 0]) {
            throw DeviceError(
                description:
                    "\(device.name) has compute capability \(device.capabilityName), the kernels need 8.0 or later (Ampere); leave it out with CUDA_VISIBLE_DEVICES, or run with --device cpu"
            )
        }
        return Array(own.prefix(count))
    }

    /// Where the library is not there, or the device it is of (a container without access).
    private func isWithoutDriver(_ probe: DeviceProbe) -> Bool {
        !probe.libraries.isEmpty && !probe.hasDriver
    }

    /// Of products of bfloat16 numbers on a processor that has none.
    private func warnOfSlowness(_ options: RunOptions, _ log: Logger) {
        guard options.precision == .bfloat16, !OpenBLASBackend.multipliesBFloat16 else { return }
        log.warning(
            "--dtype bfloat16: this processor has no instructions for it (AVX-512 BF16), so that numbers are rounded as there, but products take as long as with float32 or longer, and float32 is more exact; leave --dtype out, or use another processor or a CUDA device"
        )
    }

    /// The devices that are left to this one of the invocations on a machine, and what is odd about it. A scheduler may
    /// have bound each task to devices of its own; else tasks divide them.
    static func share(
        _ devices: [DeviceDescription], _ placement: RankPlacement, environment: [String: String]
    ) -> (devices: [DeviceDescription], note: String?) {
        let (tasks, count) = (placement.localCount, devices.count)
        let onNode = environment["SLURM_GPUS_ON_NODE"].flatMap { Int($0) } ?? 0
        guard tasks > 1, count > 1, onNode <= count else { return (devices, nil) }
        guard count >= tasks else {
            return (
                [devices[placement.localRank % count]],
                "\(tasks) tasks share the \(count) CUDA devices of this machine, so that some have two models to hold; start as many tasks as there are devices (if each task was bound to devices of its own, start one task a device)"
            )
        }
        let each = count / tasks
        let first = placement.localRank % tasks * each
        let idle = count - each * tasks
        return (
            Array(devices[first..<first + each]),
            idle == 0
                ? nil
                : "\(tasks) tasks take \(each) CUDA \(each == 1 ? "device" : "devices") each; \(idle) of the \(count) of this machine \(idle == 1 ? "is" : "are") idle"
        )
    }

    // MARK: Reporting

    /// What there is of CUDA, in a line.
    func summary() async -> String {
        let probe = await probe()
        let libraries = probe.libraries.filter { $0.path != nil }
            .map { "\($0.name) \($0.version ?? "of unknown version")" }
        guard probe.problem == nil, !probe.devices.isEmpty else {
            return isWithoutDriver(probe)
                ? "CUDA: no NVIDIA driver" : "CUDA: not usable; see sae-extract devices"
        }
        return
            "CUDA: \(libraries.joined(separator: ", ")); \(probe.devices.map(\.name).joined(separator: ", "))"
    }

    /// `sae-extract devices`. Throws `DeviceError` where a run could not use any.
    func report() async throws {
        let probe = await probe()
        var lines: [String] = []
        if !probe.libraries.isEmpty {
            lines.append("libraries")
            lines += textTable(
                probe.libraries.map {
                    [$0.name, $0.version ?? "", $0.path ?? "not found"]
                })
            lines.append("")
        }
        if !probe.devices.isEmpty {
            lines.append("devices")
            lines += textTable(
                [["CUDA_VISIBLE_DEVICES", "name", "memory", "compute capability", "UUID"]]
                    + probe.devices.map {
                        [
                            $0.token, $0.name, "\($0.memory >> 20) MiB", $0.capabilityName, $0.uuid,
                        ]
                    })
            lines.append("")
            lines.append(
                "a run with these flags unset has \(probe.devices.count) \(probe.devices.count == 1 ? "worker" : "workers"), one a device"
            )
        }
        try printLines(lines)
        if let problem = probe.problem { throw DeviceError(description: problem) }
    }
}
