// The root command: the help of the program, its subcommands and the run itself.

import ArgumentParser
import RunFiles

/// `sae-extract` without a subcommand: a run. The flags are spelled in snake_case, as in users' existing scripts.
struct SAEExtract: Command {
    static let configuration = CommandConfiguration(
        commandName: "sae-extract",
        abstract:
            "Runs Gemma-2 over a corpus and records which Gemma Scope SAE features fire at which token.",
        discussion: """
            Every document goes through the model once. The residual stream, the MLP output and the \
            attention heads of each requested layer are encoded with a JumpReLU SAE. The features that \
            fire, the cross-entropy and entropy per token, the tokens and the texts are written per \
            author to --save_dir as NPZ, NPY and JSON.

            Example:
              sae-extract --layers 5 10 15

            The model, the SAEs and the corpus are read from the given paths, otherwise from the Hugging Face \
            cache (HF_HOME). What is missing is downloaded into that cache. `sae-extract fetch` with the same \
            flags only downloads, for machines that later have no network (HF_HUB_OFFLINE=1). Gemma is gated: \
            accept its terms on its page and give a token in HF_TOKEN.

            A list takes several values after one flag, separated by spaces or commas (authors: by spaces only). If a flag \
            is given twice, the last one counts. --n-docs and --n_docs are the same flag. Each flag also reads the \
            environment: --n_docs is SAE_EXTRACT_N_DOCS (authors are split at newlines there). ~ at the front of a path \
            is the home folder.

            The same command continues a run that was killed or stopped. Several processes share the work as ranks, by \
            --rank and --world_size or by the variables of torchrun, srun, mpirun and other launchers.

            Exit codes: 0 done, 1 a worker failed and the others finished, 64 invalid flag, 65 bad corpus, \
            checkpoint or SAE, 69 device or Hub unavailable, 70 internal error, 74 I/O error, disk full or memory refused, 75 stopped by a \
            signal (run again to continue), 78 --save_dir holds results of another configuration.
            """,
        // Without a version, ArgumentParser would refuse the flag --version. `VersionCommand` prints the version.
        version: RunFiles.version,
        subcommands: [
            FetchCommand.self, SAEsCommand.self, DevicesCommand.self, InspectCommand.self,
            ReportCommand.self, VerifyCommand.self,
        ])

    @OptionGroup var flags: RunFlags

    func execute(_ environment: [String: String]) async throws {
        flags.startLogging()
        try await RunInvocation(flags, environment: environment).run()
    }
}
