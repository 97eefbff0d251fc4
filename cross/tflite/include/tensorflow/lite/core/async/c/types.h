/* Nothing of it is used; tflitec copies it by name. */
