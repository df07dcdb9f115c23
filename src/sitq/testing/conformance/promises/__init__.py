"""The promises of the contract, a file for each subject."""
