"""What a model's library comes with, so that it is at home: JavaScript, Java and Kotlin, Swift, CMake."""
