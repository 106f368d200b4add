// Finds the folders in which the kernel keeps the limits of this process' control groups (cgroups(7)).

import FoundationEssentials

/// The control groups of a process, in version 1, version 2 or both.
public struct ControlGroups: Sendable {
    /// The path of the group, by controller ("cpu") for version 1; under the key "" for version 2, which has one tree.
    private var paths: [String: String] = [:]
    private var mounts: [Mount] = []
    /// Returns the text of a file; nil if it does not exist or cannot be read.
    public let read: @Sendable (String) -> String?

    /// A mounted tree of groups: the whole tree, or the part below one group (`root`).
    private struct Mount {
        var version: Int
        var root: String
        var point: String
        /// The mount options of the file system. In version 1 they name the controllers.
        var options: [Substring]
    }

    /// The groups of this process, read from `/proc`.
    public static let ofThisProcess = ControlGroups { path in
        (try? Data(contentsOf: URL(filePath: path))).map { String(decoding: $0, as: UTF8.self) }
    }

    /// Parses `/proc/self/cgroup` and `/proc/self/mountinfo`, which `read` returns.
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
            // proc(5): mount ID, parent ID, device, root, mount point, options, …, "-", type, source, options of the file system
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

    /// Returns the folders of the groups whose `controller` limits this process, each with its cgroup version. These are the
    /// process' own group and its parents, as far as they are mounted, in the trees of both versions.
    public func folders(of controller: String) -> [(folder: String, version: Int)] {
        mounts.flatMap { mount -> [(String, Int)] in
            guard mount.version == 2 || mount.options.contains(Substring(controller)),
                let path = paths[mount.version == 2 ? "" : controller]
            else { return [] }
            // In a container the path may be a path of the host that is not mounted here, or begin with "/..". Then the top of
            // the mount is the nearest visible group.
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

    /// Replaces octal escapes by their bytes: mountinfo writes a space as "\040".
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
