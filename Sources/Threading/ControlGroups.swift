// Where the kernel keeps the limits of the groups of processes that this one is in (cgroups(7)).

import FoundationEssentials

/// The control groups of a process, of version 1, version 2 or both.
public struct ControlGroups: Sendable {
    /// The group in each controller's tree of version 1 ("cpu"), and under "" in the one tree of version 2.
    private var paths: [String: String] = [:]
    private var mounts: [Mount] = []
    /// Gives a file's text; nil where it is not there or cannot be read.
    public let read: @Sendable (String) -> String?

    /// A tree that is mounted, the whole or the part below one group.
    private struct Mount {
        var version: Int
        var root: String
        var point: String
        /// What the file system was mounted with: controllers, in version 1.
        var options: [Substring]
    }

    /// This process' groups, as `/proc` tells.
    public static let ofThisProcess = ControlGroups { path in
        (try? Data(contentsOf: URL(filePath: path))).map { String(decoding: $0, as: UTF8.self) }
    }

    /// The groups that `/proc/self/cgroup` and `/proc/self/mountinfo` name, by `read`.
    init(read: @escaping @Sendable (String) -> String?) {
        self.read = read
        for line in (read("/proc/self/cgroup") ?? "").split(separator: "\n") {
            // "4:cpu,cpuacct:/user.slice", "0::/user.slice"
            let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard parts.count == 3 else { continue }
            for controller in parts[1].split(separator: ",", omittingEmptySubsequences: false) {
                paths[String(controller)] = String(parts[2])
            }
        }
        for line in (read("/proc/self/mountinfo") ?? "").split(separator: "\n") {
            // proc(5): numbers, device, root, mount point, options, …, "-", type, source, the file system's options
            let parts = line.split(separator: " ")
            guard let dash = parts.firstIndex(of: "-"), dash > 4, dash + 3 < parts.count,
                ["cgroup", "cgroup2"].contains(parts[dash + 1])
            else { continue }
            mounts.append(
                Mount(
                    version: parts[dash + 1] == "cgroup2" ? 2 : 1,
                    root: ControlGroups.unescaped(parts[3]),
                    point: ControlGroups.unescaped(parts[4]),
                    options: parts[dash + 3].split(separator: ",")))
        }
    }

    /// The folders of the groups that limit this process by `controller`: its own and those above it, as far as they can
    /// be seen, in both versions' trees, with the version.
    public func folders(of controller: String) -> [(folder: String, version: Int)] {
        mounts.flatMap { mount -> [(String, Int)] in
            guard mount.version == 2 || mount.options.contains(Substring(controller)),
                let path = paths[mount.version == 2 ? "" : controller]
            else { return [] }
            // In a container the path may be the host's, which is not seen here, or begin with "/..": then the mount's
            // top is the nearest that is.
            let (group, root) = (path.split(separator: "/"), mount.root.split(separator: "/"))
            let isSeen = !group.contains("..") && !root.contains("..") && group.starts(with: root)
            var below = isSeen ? group.dropFirst(root.count) : []
            var folders: [(String, Int)] = []
            while true {
                folders.append((below.reduce(mount.point) { "\($0)/\($1)" }, mount.version))
                if below.popLast() == nil { return folders }
            }
        }
    }

    /// Spaces and the like are written as "\040" there.
    private static func unescaped(_ text: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "\\"),
                let code = UInt8(String(decoding: rest.prefix(3), as: UTF8.self), radix: 8)
            {
                bytes.append(code)
                rest = rest.dropFirst(3)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
