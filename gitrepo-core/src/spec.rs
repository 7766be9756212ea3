//! What is asked: validated newtypes for the volume's vocabulary.
