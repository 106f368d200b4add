// Finds the folders that show the limits of this process's control groups (cgroups(7)).

import FoundationEssentials

/// The control groups of a process, in version 1, version 2 or both.
public struct ControlGroups: Sendable {
    /// The path of the process's group for each controller, such as "cpu". In version 2, all controllers share one
    /// group, and its key is "".
    private var paths: [String: String] = [:]
    private var mounts: [Mount] = []
    /// Returns the text of a file; nil if it does not exist or cannot be read.
    public let read: @Sendable (String) -> String?

    /// A mounted tree of groups. `root` is the group at the top of the mounted tree.
    private struct Mount {
        var version: Int
        var root: String
        var point: String
        /// The mount options of the file system. In version 1 they name the controllers.
        var options: [Substring]
    }

    /// The control groups of this process, read from `/proc`.
    public static let ofThisProcess = ControlGroups { path in
        (try? Data(contentsOf: URL(filePath: path))).map { String(decoding: $0, as: UTF8.self) }
    }

    /// Parses `/proc/self/cgroup` and `/proc/self/mountinfo`. `read` returns the text of the file at a path.
    init(read: @escaping @Sendable (String) -> String?) {
        self.read = read
        for line in (read("/proc/self/cgroup") ?? "").split(separator: "\n") {
            // Examples: "4:cpu,cpuacct:/user.slice" (version 1), "0::/user.slice" (version 2).
            let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard parts.count == 3 else { continue }
            for controller in parts[1].split(separator: ",", omittingEmptySubsequences: false) {
                paths[String(controller)] = String(parts[2])
            }
        }
        for line in (read("/proc/self/mountinfo") ?? "").split(separator: "\n") {
            // The fields of a line (proc(5)): mount ID, parent ID, device, root, mount point, options, …, "-", type,
            // source, options of the file system.
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

    /// Returns the folders of the control groups whose limits for `controller` apply to this process, each with its
    /// cgroup version. These groups are the process's own group, then the groups above it that are mounted.
    public func folders(of controller: String) -> [(folder: String, version: Int)] {
        mounts.flatMap { mount -> [(String, Int)] in
            guard mount.version == 2 || mount.options.contains(Substring(controller)),
                let path = paths[mount.version == 2 ? "" : controller]
            else { return [] }
            // In a container, the process's own group may not be mounted: its path begins with "/..", or is a path of
            // the host. Then the nearest visible group is the top of the mount.
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

    /// Replaces octal escapes by their bytes. Example: mountinfo writes a space as "\040".
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
