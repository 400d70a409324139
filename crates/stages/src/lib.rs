//! Runs the stage plan of the configuration language.
