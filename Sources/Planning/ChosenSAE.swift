// The SAE chosen for a hook.

import Hooks

/// The SAE chosen for a hook.
public struct ChosenSAE: Codable, Sendable {
    /// The hook whose activations the SAE encodes.
    public let hook: HookPoint
    /// The SAE's path in its repository.
    public let id: SAEIdentifier
    /// The folder of the SAE's files.
    public let directory: String
    /// The origin of a downloaded SAE; nil for a local SAE.
    public let origin: HubOrigin?

    /// Creates the choice of the SAE `id` in the folder `directory` for `hook`.
    public init(hook: HookPoint, id: SAEIdentifier, directory: String, origin: HubOrigin? = nil) {
        (self.hook, self.id, self.directory, self.origin) = (hook, id, directory, origin)
    }
}
