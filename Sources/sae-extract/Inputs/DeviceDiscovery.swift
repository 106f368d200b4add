// Lists the CUDA devices and chooses those of this invocation's workers.

import CPUBackend
import CUDA
import Files
import FoundationEssentials
import Glibc
import Logging
import Planning
import Subprocess
import SystemPackage
import Tensors

/// Lists the devices in a child process. The parent never initialises CUDA, because a process that has initialised
/// CUDA cannot safely start other processes that use CUDA.
struct DeviceDiscovery {
    /// The first command-line argument of a child process that lists the devices.
    static let argument = "__devices"

    private let environment: [String: String]

    init(environment: [String: String]) {
        self.environment = environment
    }

    /// The child's main function: writes the devices and libraries to standard output as JSON, and exits.
    static func main() -> Never {
        let environment = ProcessInfo.processInfo.environment
        // If the driver hangs and the parent has ended, the alarm ends this process.
        alarm(UInt32(DeviceDiscovery(environment: environment).patience + 5))
        let probe = DeviceProbe(environment: environment)
        if let data = try? JSONEncoder().encode(probe) {
            try? printJSON(Array(data))
        }
        // Uses `_exit`, which skips the exit handlers of the driver.
        _exit(0)
    }

    // MARK: Listing

    /// Seconds to wait for the driver's answer. After a long idle time, a driver takes several seconds per device.
    private var patience: Int {
        environment["SAE_EXTRACT_PROBE_SECONDS"].flatMap { Int($0) }.map { min(max(1, $0), 86_400) }
            ?? 120
    }

    /// Returns the devices and libraries. If CUDA_VISIBLE_DEVICES names several MIG slices of devices, a process sees
    /// only the first slice. So a child is started for each slice.
    func probe() async -> DeviceProbe {
        let tokens = DeviceProbe.tokens(environment["CUDA_VISIBLE_DEVICES"] ?? "")
        guard tokens.count > 1, tokens.contains(where: { $0.hasPrefix("MIG-") }) else {
            return await ask([:])
        }
        var all = DeviceProbe()
        for token in tokens {
            let one = await ask(["CUDA_VISIBLE_DEVICES": token])
            all.libraries = one.libraries
            guard one.problem == nil else {
                // The first token that names no device ends the list. The driver reads CUDA_VISIBLE_DEVICES in this
                // way.
                if all.devices.isEmpty { all.problem = one.problem }
                break
            }
            all.devices += one.devices
        }
        return all
    }

    private func ask(_ changes: [String: String?]) async -> DeviceProbe {
        var failed = DeviceProbe()
        // Waits at most `patience` seconds. A child that hangs in the driver cannot be killed, so this process
        // continues without it.
        typealias Answer = Result<(text: String, status: TerminationStatus), any Error>
        let (answers, answer) = AsyncStream<Answer?>.makeStream()
        let asking = Task {
            do {
                let result = try await Subprocess.run(
                    .path("/proc/self/exe"),
                    arguments: Arguments(
                        executablePathOverride: "sae-extract",
                        remainingValues: [DeviceDiscovery.argument]),
                    environment: ChildEnvironment.inherited(with: changes), input: .none,
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
                "the driver has not answered for \(patience) seconds (SAE_EXTRACT_PROBE_SECONDS); check whether nvidia-smi answers"
        case .failure(let error):
            failed.problem = "cannot list the devices: \(error); check whether nvidia-smi works"
        case .success(let (text, status)):
            if let probe = try? JSONDecoder().decode(DeviceProbe.self, from: Data(text.utf8)) {
                return probe
            }
            failed.problem =
                "the process that lists the devices crashed in the driver (\(status)); check whether nvidia-smi works"
        }
        return failed
    }

    // MARK: Choosing

    /// Returns one device for each worker of this invocation. If the list is empty, the workers compute on the CPU.
    /// Throws `UsageError` and `DeviceError`.
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
                "\(count) are more than the \(own.count) CUDA \(own.count == 1 ? "device" : "devices") of this invocation; give at most \(own.count), or --device cpu"
            )
        }
        for device in own.prefix(count) where device.capability.lexicographicallyPrecedes([8, 0]) {
            throw DeviceError(
                description:
                    "\(device.name) has compute capability \(device.capabilityName), but the kernels need 8.0 or later (Ampere); exclude this device with CUDA_VISIBLE_DEVICES, or run with --device cpu"
            )
        }
        return Array(own.prefix(count))
    }

    /// Returns whether the driver's library or its device file is missing. A container without GPU access lacks only
    /// the device file.
    private func isWithoutDriver(_ probe: DeviceProbe) -> Bool {
        !probe.libraries.isEmpty && !probe.hasDriver
    }

    /// Warns if `--dtype bfloat16` was given on a processor without bfloat16 instructions.
    private func warnOfSlowness(_ options: RunOptions, _ log: Logger) {
        guard options.precision == .bfloat16, !OpenBLASBackend.multipliesBFloat16 else { return }
        log.warning(
            "--dtype bfloat16: this processor has no instructions for bfloat16 (AVX-512 BF16), so the run is less exact than with float32 and not faster; leave --dtype out, or use another processor or a CUDA device"
        )
    }

    /// Returns the devices for this invocation. If a launcher has started several tasks on this machine, they divide
    /// `devices`. If a scheduler has given each task its own devices, the task uses all of `devices`. Also returns a
    /// note if tasks must share a device or if a device stays idle.
    static func share(
        _ devices: [DeviceDescription], _ placement: RankPlacement, environment: [String: String]
    ) -> (devices: [DeviceDescription], note: String?) {
        let (tasks, count) = (placement.localCount, devices.count)
        let onNode = environment["SLURM_GPUS_ON_NODE"].flatMap { Int($0) } ?? 0
        guard tasks > 1, count > 1, onNode <= count else { return (devices, nil) }
        guard count >= tasks else {
            return (
                [devices[placement.localRank % count]],
                "\(tasks) tasks on this machine share \(count) CUDA devices, so some devices hold several models; start at most \(count) tasks on this machine. If these \(count) devices belong to this task alone, the task uses only one of them: give each task one device"
            )
        }
        let each = count / tasks
        let first = placement.localRank % tasks * each
        let idle = count - each * tasks
        return (
            Array(devices[first..<first + each]),
            idle == 0
                ? nil
                : "\(tasks) tasks take \(each) CUDA \(each == 1 ? "device" : "devices") each; \(idle) of the \(count) devices of this machine \(idle == 1 ? "is" : "are") idle; to use all, start \(count) tasks"
        )
    }

    // MARK: Summary

    /// Returns one line that names the CUDA libraries and devices.
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
}
